"""What a policy file declares, before anything outside of it was looked at; and what was then fetched for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from failshut.config.locate import Path, Spot
from failshut.config.source import SourceText
from failshut.model.finding import Code, Finding, Severity
from failshut.model.pin import Pin
from failshut.model.policy import Policy
from failshut.model.units import Address, NamedEndpoint

if TYPE_CHECKING:
    from failshut.config.prune import Mirror
    from failshut.config.schema import Document


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read: why, whether root could, and what to do."""

    why: str
    denied: bool = False
    help: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """Who but root may write a file: its owner, by name ("" for root, and for whoever runs this), or everybody."""

    owner: str = ""
    others_write: bool = False


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A host name without an address, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Sources:
    """What `host.sources.fetch` brought for a declaration; a failure is a value.

    `users` maps a name to its number, or to None when there is no such user. `pinned` are the host names of /etc/hosts: their
    lookup needs no DNS. `pins` are what the armed lock holds names for; they stand in `names` too. `cgroups` are those of the
    declared control groups that exist.
    """

    files: Mapping[str, bytes | Unreadable] = field(default_factory=dict, repr=False)
    names: Mapping[str, tuple[Address, ...] | Unresolved] = field(default_factory=dict)
    users: Mapping[str, int | None] = field(default_factory=dict)
    pinned: frozenset[str] = frozenset()
    cgroups: frozenset[str] = frozenset()
    pins: Mapping[str, Pin] = field(default_factory=dict)
    # What belongs to a file beside it, and who may write it, both by its path.
    beside: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    access: Mapping[str, Access] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checked:
    """The policy, or None where an error forbids one; with it every finding, warnings included."""

    policy: Policy | None
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop a verb."""
        return tuple(each for each in self.findings if each.is_error)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are said and passed."""
        return tuple(each for each in self.findings if not each.is_error)


@dataclass(frozen=True, slots=True)
class Declaration:
    """A policy file that is TOML: its document, without the parts that `findings` already refuses.

    `damaged` holds the paths of those parts, so that what is missing because of them is not reported a second time.
    """

    document: Document
    source: SourceText = field(repr=False)
    spots: Mapping[Path, Spot] = field(repr=False)
    mirror: Mirror = field(repr=False)
    findings: tuple[Finding, ...] = ()
    damaged: frozenset[Path] = frozenset()

    @property
    def path(self) -> str:
        """The policy file's name as it was given."""
        return self.source.path

    @property
    def files(self) -> tuple[str, ...]:
        """The tunnel configs to read; a relative one lies beside the policy file."""
        return tuple(dict.fromkeys(self.file_of(each.config) for each in self.document.tunnel.values() if each.config))

    @property
    def names(self) -> tuple[str, ...]:
        """The host names to resolve; those of the tunnels' own configs come on top (`config.resolve.names`)."""
        named = (
            each.host
            for table in self.document.tunnel.values()
            for each in table.endpoints or ()
            if isinstance(each, NamedEndpoint)
        )
        return tuple(dict.fromkeys(named))

    @property
    def users(self) -> tuple[str, ...]:
        """The user names to look up."""
        return tuple(dict.fromkeys(each.user for each in self.document.allow.outbound if isinstance(each.user, str)))

    @property
    def cgroups(self) -> tuple[str, ...]:
        """The control groups to look for."""
        return tuple(dict.fromkeys(each.cgroup for each in self.document.allow.outbound if each.cgroup))

    def file_of(self, config: str) -> str:
        """Return where a `config` key's file lies."""
        return str(PurePosixPath(self.path).parent / config)

    def is_damaged(self, *path: str | int) -> bool:
        """Whether a finding already refuses something at or below `path`."""
        return any(each[: len(path)] == path for each in self.damaged)

    def spot(self, path: Path) -> tuple[int, int, int]:
        """Return (line, column, length) of the value at `path` of the document, or of the nearest thing around it."""
        original = self.mirror.original(path)
        while original and original not in self.spots:
            original = original[:-1]
        if original not in self.spots:
            return (0, 0, 1)
        span = self.spots[original].value
        return (span.line, span.column, span.length)

    def finding(
        self,
        path: Path,
        code: Code,
        message: str,
        help: str = "",  # noqa: A002 - Finding's own word
        severity: Severity = Severity.ERROR,
    ) -> Finding:
        """Return a finding about the value at `path`."""
        return self.source.finding(code, message, self.spot(path), help, severity)

    def where(self, path: Path) -> str:
        """Return `path` as file:line, to be named by a finding that stands elsewhere."""
        line = self.spot(path)[0]
        return f"{self.path}:{line}" if line else self.path
