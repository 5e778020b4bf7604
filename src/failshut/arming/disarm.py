"""Disarm: the only way out. Boot, kernel, files, settings, the tunnels' configs and marks: exactly as they were before arming."""

from __future__ import annotations

import contextlib
from pathlib import Path

from failshut.arming import pending
from failshut.arming.armed.record import MarkedTunnel, Record, load_pending, load_record
from failshut.arming.backends import backend
from failshut.arming.boot.generations import CURRENT, LAST_GOOD, numbered
from failshut.arming.boot.install import uninstall
from failshut.arming.errors import ArmingError
from failshut.arming.kernel.routing import unroute
from failshut.arming.undo import read_text, unwritable
from failshut.boot.places import ARMED_DIRECTORY, LOADER, PERSISTENT_RULES
from failshut.emit.iptables import merged_text
from failshut.emit.tunnel_marks import without_mark
from failshut.emit.wgquick import TAG
from failshut.host.files import remove_tree, sync_directory, write_atomically
from failshut.host.network.sysctl import set_sysctl
from failshut.host.tunnels.managers import read_again
from failshut.host.tunnels.wireguard import set_fwmark
from failshut.model.backend import BackendName
from failshut.model.progress import Report
from failshut.model.ruleset import Family, Ruleset
from failshut.model.units import Mark

# Where the tunnels' own programs keep their configs.
_CONFIGS = (
    ("/etc/wireguard", "*.conf"),
    ("/etc/openvpn", "**/*.conf"),
    ("/etc/systemd/network", "*.netdev.d/failshut.conf"),
    ("/etc/NetworkManager/system-connections", "*.nmconnection"),
)


def disarm(report: Report) -> bool:
    """Take the lock off; returns False when there was none. Raises `ArmingError`, and then the lock is still on.

    First the boot forgets it, then the kernel: cut off in between, the machine is locked until its next boot.
    """
    record = _record(report)
    tool = backend(record.backend if record else BackendName.NFTABLES)
    listing = tool.listing()
    if not listing.tables and not ARMED_DIRECTORY.exists() and not Path(LOADER).exists():
        return False
    # What may fail comes first: a config that can't be written leaves the lock on.
    for path in sorted({each.path for each in record.configs} if record else _tagged_configs()):
        _restore_config(Path(path), report)
    for name, existed in record.shared if record else ():
        _restore_shared(Path(name), existed, report)
    uninstall(report, record.directories if record else ())
    pending.forget()
    if listing.tables:
        report("removing the lock from the kernel")
        tool.remove(listing)
    unroute()
    if record:
        for mark in record.marks:
            _restore_mark(mark, report)
        for changed in record.sysctls:
            set_sysctl(changed.path, changed.before)
    remove_tree(ARMED_DIRECTORY)
    return True


def _tagged_configs() -> set[str]:
    """Return the configs with our line where their programs keep them: what is known without a record."""
    found = (path for place, pattern in _CONFIGS for path in Path(place).glob(pattern) if path.is_file())
    return {str(path) for path in found if TAG in path.read_text(encoding="utf-8", errors="replace")}


def _record(report: Report) -> Record | None:
    """Return what was armed, or was being armed when the power went: the first record that can be read."""
    waiting = load_pending()
    known = reversed(numbered(ARMED_DIRECTORY)) if ARMED_DIRECTORY.is_dir() else ()
    for generation in (waiting.generation if waiting else CURRENT, LAST_GOOD, *known):
        try:
            if record := load_record(ARMED_DIRECTORY / generation):
                return record
        except ValueError as error:
            report(f"the record in {ARMED_DIRECTORY / generation} is broken: {error}")
    return None


def _restore_shared(path: Path, existed: bool, report: Report) -> None:
    """Take our rules out of a file of the user's, and leave his as he has left them by now; one that we made goes."""
    text = read_text(path)
    if text is None:
        return
    family = Family.IP6 if str(path) == PERSISTENT_RULES["6"] else Family.IP
    rest = merged_text(text, Ruleset(), family)
    report(f"taking our rules out of {path}")
    try:
        if rest.strip() or existed:
            write_atomically(path, rest)
        else:
            path.unlink()
    except OSError as error:
        raise unwritable(path, error) from error


def _restore_config(path: Path, report: Report) -> None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ArmingError(f"{path} can't be read: {error.strerror}", help="remove its line tagged 'failshut' by hand") from error
    rest = without_mark(text)
    if rest == text:
        return
    report(f"taking our mark out of {path}")
    try:
        if rest:
            write_atomically(path, rest)
        else:
            _remove_drop_in(path)
    except OSError as error:
        raise unwritable(path, error) from error
    read_again([str(path)])


def _remove_drop_in(path: Path) -> None:
    path.unlink()
    sync_directory(path.parent)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _restore_mark(mark: MarkedTunnel, report: Report) -> None:
    # A tunnel that is gone has no mark to take off.
    if set_fwmark(mark.interface, Mark(mark.before) if mark.before else None).ok:
        report(f"{mark.interface} has the mark it had before")
