"""A finding: one mistake or warning, with its place, its cause and its remedy. Errors are values until the CLI prints them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error stops every verb that would write or load; a warning is said and passed."""

    ERROR = "error"
    WARNING = "warning"


class Code(StrEnum):
    """Every finding's code. P: the policy file. T: a tunnel's config. H: the host. R: a ruleset. S: the policy's signature.

    Declared once; docs and tests read it here.
    """

    FILE_UNREADABLE = "P001"
    NOT_TOML = "P002"
    NOT_TEXT = "P003"
    EMPTY = "P004"
    UNKNOWN_KEY = "P010"
    MISSING_KEY = "P011"
    WRONG_TYPE = "P012"
    BAD_VALUE = "P013"
    BAD_ENDPOINT = "P014"
    NO_TUNNEL = "P015"
    NO_ENDPOINT = "P016"
    CONTRADICTION = "P017"
    TOO_WIDE = "P018"
    BACKEND_CANT = "P019"
    UNRESOLVED_NAME = "P020"
    UNKNOWN_USER = "P021"
    PUBLIC_LAN = "P022"
    OPEN_SERVICE = "P023"
    UNKNOWN_CGROUP = "P024"
    CONFIG_UNREADABLE = "T001"
    CONFIG_NOT_WG = "T002"
    CONFIG_BAD_LINE = "T003"
    CONFIG_BAD_VALUE = "T004"
    CONFIG_NO_INTERFACE = "T005"
    CONFIG_NO_ENDPOINT = "T006"
    CONFIG_NAME_NEEDS_DNS = "T010"
    CONFIG_OWN_FIREWALL = "T011"
    CONFIG_OTHER_NAME = "T012"
    CONFIG_NOT_FULL = "T013"
    CONFIG_SHARED_OWNER = "T014"
    CONFIG_ELSEWHERE = "T015"
    CONFIG_MOVING = "T016"
    CONFIG_EXPOSED = "T017"
    CONFIG_STUCK = "T018"
    NO_PRIVILEGE = "H001"
    RULES_UNREADABLE = "R001"
    RULES_SYNTAX = "R002"
    RULES_BAD_VALUE = "R003"
    RULES_NO_TARGET = "R004"
    RULES_LOOP = "R005"
    RULES_ELSEWHERE = "R006"
    RULES_COMMAND = "R007"
    RULES_OTHER_FAMILY = "R008"
    RULES_UNCLEAR = "R009"
    RULES_SCRIPT = "R010"
    UNSIGNED = "S001"
    BAD_SIGNATURE = "S002"
    UNKNOWN_SIGNER = "S003"
    SIGNERS_UNSAFE = "S004"
    NOT_CHECKED = "S005"
    OLDER_SERIAL = "S006"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file: `line` and `column` count from 1; 0 means the file as a whole. `length` is in characters."""

    file: str
    line: int = 0
    column: int = 0
    length: int = 1

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what (`message`), where (`place`), and what to do about it (`help`).

    `source` is the text of the line it points at, so that whoever prints the finding needs no file access.
    """

    code: Code
    message: str
    place: Place
    help: str = ""
    severity: Severity = Severity.ERROR
    source: str = ""

    @property
    def is_error(self) -> bool:
        """Whether this finding stops a verb that would write or load."""
        return self.severity is Severity.ERROR

    @property
    def is_denied(self) -> bool:
        """Whether it is only that this user may not look."""
        return self.code is Code.NO_PRIVILEGE
