"""journald's own socket (systemd.io/JOURNAL_NATIVE_PROTOCOL): a message with fields that `journalctl FIELD=VALUE` finds."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "failshut"


def log(message: str, priority: int, fields: Mapping[str, str], *, to: Path = SOCKET) -> bool:
    """Write one entry, `priority` as in syslog(3); on standard error where there is no journal, and False then."""
    entry = {"MESSAGE": message, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": IDENTIFIER, **fields}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(b"".join(_field(name, value) for name, value in entry.items()), str(to))
    except OSError:
        sys.stderr.write(f"<{priority}>failshut: {message}\n")
        return False
    return True


def _field(name: str, value: str) -> bytes:
    text = value.encode(errors="replace")
    if b"\n" not in text:
        return name.encode() + b"=" + text + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(text)) + text + b"\n"
