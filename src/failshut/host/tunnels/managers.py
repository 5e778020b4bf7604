"""Who brought an interface up, of the network managers; and having them read a file again that was edited under them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

from failshut.host.run import run

_KEYFILE = ".nmconnection"
# However the program that stopped it ends: its end of the pipe closes.
_GO_ON = "trap '' INT TERM HUP; read -r _; kill -CONT \"$1\""


class Manager(StrEnum):
    """A network manager."""

    NETWORK_MANAGER = "NetworkManager"
    NETWORKD = "systemd-networkd"


# What each leaves in /run for an interface, by its number, and the words in it for one that it manages.
_SIGNS = (
    (Manager.NETWORK_MANAGER, Path("/run/NetworkManager/devices"), "nm-owned=true"),
    (Manager.NETWORKD, Path("/run/systemd/netif/links"), "NETWORK_FILE=/"),
)


def manager_of(index: int | str) -> Manager | None:
    """Return who brought an interface up, by its number; None for neither: such a tunnel is wg-quick's, OpenVPN's, or by hand."""
    for manager, directory, sign in _SIGNS:
        with contextlib.suppress(OSError):
            if sign in (directory / str(index)).read_text(errors="replace"):
                return manager
    return None


def read_again(paths: Iterable[str]) -> None:
    """Have NetworkManager read its connections again. A failure costs nothing: it reads them when it starts."""
    connections = [each for each in paths if each.endswith(_KEYFILE)]
    if connections and Path("/run/NetworkManager").exists():
        run(["nmcli", "connection", "load", *connections])


@contextlib.contextmanager
def network_manager_stopped() -> Iterator[None]:
    """Let NetworkManager do nothing for the length of the block, and go on after it, also where this program is killed.

    What its unit runs is stopped by SIGSTOP: it keeps every device as it is, and makes none anew. Without such a unit, nothing.
    """
    found = run(["systemctl", "show", "--property=MainPID", "--value", "NetworkManager.service"])
    process = found.out.strip()
    if not found.ok or process in ("", "0"):
        yield
        return
    waker = subprocess.Popen(("sh", "-c", _GO_ON, "sh", process), stdin=subprocess.PIPE, start_new_session=True)
    try:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGSTOP)
        yield
    finally:
        waker.communicate()
