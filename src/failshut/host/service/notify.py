"""systemd's notification socket (sd_notify(3)): a service says that it is ready, alive, and what it does."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


def notify(*lines: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Send `READY=1`, `WATCHDOG=1`, `STATUS=…` to the service manager; False where nobody asked to be told."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # A name that begins with @ is abstract: it has no file.
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall("\n".join(lines).encode())
    except OSError:
        return False
    return True


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return within how many seconds the service manager wants to hear from us; None when it does not."""
    try:
        return int(environment["WATCHDOG_USEC"]) / 1_000_000 or None
    except (KeyError, ValueError):
        return None
