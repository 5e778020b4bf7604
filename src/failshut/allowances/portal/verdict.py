"""What a probe saw, and what it means. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from urllib.parse import urljoin, urlsplit

# Answers 204 and nothing else, to everybody, over plain HTTP.
PROBE_URL = "http://cp.cloudflare.com/generate_204"
_NO_CONTENT = 204


class Verdict(StrEnum):
    """What stands between this machine and the Internet."""

    PORTAL = "portal"
    OPEN = "open"
    NO_NAME = "no-name"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a probe saw: who answered for the name, the HTTP status (0 for none) and where it leads; `error` is the last failure."""

    address: str = ""
    status: int = 0
    location: str = ""
    body: bool = False
    error: str = ""

    def to_json(self) -> str:
        """Return it as the probe prints it."""
        return json.dumps(asdict(self))


def seen(text: str) -> Seen:
    """Read what a probe printed; a probe that printed nothing saw nothing."""
    try:
        return Seen(**json.loads(text))
    except (ValueError, TypeError):
        return Seen(error="the probe ended without a word")


def judge(found: Seen) -> Verdict:
    """Return what a probe's sight means: only an empty 204 is the page itself."""
    if not found.address:
        return Verdict.NO_NAME
    if not found.status:
        return Verdict.SILENT
    return Verdict.OPEN if found.status == _NO_CONTENT and not found.body else Verdict.PORTAL


def sign_in_page(found: Seen, probe: str) -> str:
    """Return where a browser should begin: where the portal leads, if that is a web page; else the probe's own page."""
    try:
        page = urljoin(probe, found.location) if found.location else probe
        parts = urlsplit(page)
    except ValueError:
        return probe
    printable = page.isascii() and page.isprintable() and " " not in page
    return page if parts.scheme in ("http", "https") and parts.netloc and printable else probe
