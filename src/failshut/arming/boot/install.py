"""The lock at boot: the loader, the units and the links to what they load, put in place or taken away."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from failshut.arming.boot import initramfs
from failshut.arming.boot.generations import CURRENT, LAST_GOOD, collect, is_sealed, numbered, point, pointed
from failshut.arming.errors import ArmingError
from failshut.arming.undo import read_text, write
from failshut.boot.artefacts import BootFile, every_file, initramfs_files, iptables_files, loader, router, systemd_files
from failshut.boot.places import (
    ARMED_DIRECTORY,
    BOOT_UNIT,
    BOOT_UNIT_PATH,
    GUARD_UNIT,
    INITRAMFS_HOOK,
    LOADER,
    MONITOR_DIRECTORY,
    MONITOR_EVENTS,
    MONITOR_LATER,
    MONITOR_LOCK,
    MONITOR_REFRESH,
    MONITOR_STATUS,
    PERSISTENT_UNIT,
    REFRESH_UNIT,
    ROUTER,
    RUN_DIRECTORY,
    UNIT_DIRECTORY,
    UNITS,
    WATCHING_UNITS,
)
from failshut.host.files import remove_tree, sync_directory
from failshut.host.run import Result
from failshut.host.self import own_command, why_no_unit
from failshut.host.service import systemd
from failshut.model.backend import BackendName
from failshut.model.plan import FileChange
from failshut.model.progress import Report


@dataclass(frozen=True, slots=True)
class Boots:
    """Who loads the lock at boot: systemd, the initramfs (which `check` refuses beside iptables), the backend's own loader."""

    with_systemd: bool
    in_initramfs: bool
    backend: BackendName = BackendName.NFTABLES


def boot_changes(boots: Boots) -> tuple[FileChange, ...]:
    """Return what must be written so that a boot loads the lock. Raises `ArmingError` for what can't be read."""
    units = _units(boots.backend) if boots.with_systemd else ()
    wanted = (loader(boots.backend), router(), *units, *(initramfs_files() if boots.in_initramfs else ()))
    return tuple(FileChange(each.path, read_text(Path(each.path)), each.text, each.mode) for each in wanted)


def _units(backend: BackendName) -> tuple[BootFile, ...]:
    if backend is BackendName.IPTABLES:
        return iptables_files(persistent=systemd.has_unit(PERSISTENT_UNIT))
    return systemd_files(own_command())


def seals(changes: Iterable[FileChange]) -> dict[str, str]:
    """Return the checksum of each file as it will be, by its path."""
    return {each.path: hashlib.sha256(each.after.encode()).hexdigest() for each in changes}


def install(generation: str, report: Report, undo: contextlib.ExitStack, boots: Boots) -> None:
    """Have the next boot load `generation`; what was current becomes the last good one. Raises `ArmingError`.

    Each step is put on `undo`. The order is for a power cut: the links are switched before any unit looks at them.
    """
    changes = boot_changes(boots)
    with_systemd, in_initramfs = boots.with_systemd, boots.in_initramfs
    is_new = pointed(ARMED_DIRECTORY, CURRENT) != generation
    fresh = not Path(BOOT_UNIT_PATH).exists()
    if with_systemd:
        undo.callback(systemd.reload_units)
    write(changes, undo)
    _switch(generation, undo)
    if with_systemd:
        _have_systemd_load_it(changes, report, undo, fresh=fresh, guarded=boots.backend is BackendName.NFTABLES)
    # The last step, because it takes long, and what it wrote is not undone.
    if in_initramfs and (is_new or initramfs.is_outdated(in_initramfs, changes)):
        report("writing the initramfs anew, with the lock in it; this takes a while")
        initramfs.write_anew()
    elif not in_initramfs:
        _take_out_of_initramfs(report)


def _have_systemd_load_it(
    changes: Iterable[FileChange], report: Report, undo: contextlib.ExitStack, *, fresh: bool, guarded: bool
) -> None:
    units, watching = (UNITS, WATCHING_UNITS) if guarded else ((BOOT_UNIT,), ())
    if any(each.is_change for each in changes):
        report("telling systemd: the lock first, then the network")
        _must(systemd.reload_units(), "systemd does not read the units")
    if fresh:
        undo.callback(systemd.disable, (*units, *watching))
    _must(systemd.enable(units), "the boot unit can't be enabled")
    _must(systemd.start(BOOT_UNIT), "the boot unit does not start")
    if not guarded:
        return
    _must(systemd.start(GUARD_UNIT), "the guard does not start")
    _must(systemd.reload(GUARD_UNIT), "the guard does not take over what has changed")
    _watch(report)


def _watch(report: Report) -> None:
    """Start what sees and says. A failure is said and no more: the lock needs none of it, and may be the only thing that works."""
    if reason := why_no_unit(own_command()):
        report(f"nobody watches the lock, which holds all the same: {reason}; install failshut below /usr/local or /opt")
        return
    done = (systemd.enable(WATCHING_UNITS), *map(systemd.start, WATCHING_UNITS))
    failed = next((each for each in done if not each.ok), None)
    if failed:
        report(f"nobody watches the lock, which holds all the same: {failed.complaint}")


def _switch(generation: str, undo: contextlib.ExitStack) -> None:
    before = {link: pointed(ARMED_DIRECTORY, link) for link in (CURRENT, LAST_GOOD)}
    # The one before is the last good one; at the first arming it is the copy that was staged beside it.
    earlier = (before[CURRENT], before[LAST_GOOD], *reversed(numbered(ARMED_DIRECTORY)))
    last_good = next((each for each in earlier if each and each != generation and is_sealed(ARMED_DIRECTORY / each)), None)
    for link, target in ((LAST_GOOD, last_good), (CURRENT, generation)):
        if before[link] == target:
            continue
        undo.callback(point, ARMED_DIRECTORY, link, before[link])
        try:
            point(ARMED_DIRECTORY, link, target)
        except OSError as error:
            raise ArmingError(f"{ARMED_DIRECTORY / link} can't be switched: {error.strerror}") from error


def tidy(directory: Path) -> None:
    """Remove what no boot needs any more; a failure costs a few kilobytes and nothing else."""
    with contextlib.suppress(OSError):
        collect(directory)


def tell_guard() -> None:
    """Have the guard take over what has changed; it never lets its table go meanwhile. Nothing without a guard."""
    if systemd.is_running() and systemd.is_active(GUARD_UNIT):
        systemd.reload(GUARD_UNIT)


def _leave_alone() -> None:
    """Stop the monitor and the guard, which would put back a lock that is taken off on purpose."""
    if systemd.is_running() and Path(UNIT_DIRECTORY, GUARD_UNIT).exists():
        systemd.stop(*WATCHING_UNITS, GUARD_UNIT)


def missing_directories() -> tuple[str, ...]:
    """Return the directories that installing would make, the deepest first."""
    above = (parent for each in every_file() for parent in Path(each.path).parents)
    return tuple(sorted({str(each) for each in above if not each.exists()}, key=len, reverse=True))


def _take_out_of_initramfs(report: Report) -> None:
    if not initramfs.is_installed():
        return
    try:
        initramfs.remove_files()
    except OSError as error:
        raise ArmingError(f"the lock can't be taken out of the initramfs: {error.strerror}", help="mount /etc writable") from error
    report("writing the initramfs anew, without the lock; this takes a while")
    if complaint := initramfs.try_to_write_anew():
        report(f"the old initramfs stays, and its lock goes as soon as the root file system is there: {complaint}")


def uninstall(report: Report, directories: Iterable[str]) -> None:
    """Take the loader, the units and the drop-ins away, and the `directories` made for them: no boot knows of a lock any more.

    Raises `ArmingError` while nothing is taken away. The first that goes is what `status` asks for: a lock without its guard is
    never said to be sound, wherever this is cut off.
    """
    with_systemd = systemd.is_running()
    written = [Path(each.path) for each in every_file()]
    _must_be_writable((*written, Path(ROUTER), Path(LOADER), Path(INITRAMFS_HOOK)))
    if any(path.exists() for path in written):
        report("taking the lock out of the boot")
        systemd.disable((*UNITS, *WATCHING_UNITS))
    _leave_alone()
    # Drop-ins before the units that they require: in between, nothing requires what is not there.
    for path in (*reversed(written), Path(ROUTER), Path(LOADER)):
        if path.exists():
            path.unlink()
            sync_directory(path.parent)
    _take_out_of_initramfs(report)
    for path in map(Path, directories):
        with contextlib.suppress(OSError):
            path.rmdir()
    if with_systemd:
        systemd.reload_units()
        # Without its file it no longer refuses to be stopped.
        systemd.stop(*WATCHING_UNITS, REFRESH_UNIT, *UNITS)
        systemd.forget(*WATCHING_UNITS, REFRESH_UNIT, *UNITS)
        _forget_monitor()


def _forget_monitor() -> None:
    """Remove what the monitor left in /run: a device that it told the loader of is none of the next lock's."""
    for path in (MONITOR_LATER, MONITOR_STATUS, MONITOR_EVENTS, MONITOR_REFRESH, MONITOR_LOCK):
        path.unlink(missing_ok=True)
    remove_tree(MONITOR_DIRECTORY)
    with contextlib.suppress(OSError):
        RUN_DIRECTORY.rmdir()


def _must_be_writable(paths: Iterable[Path]) -> None:
    """Raise `ArmingError` while nothing has been taken away yet."""
    for path in paths:
        if path.exists() and not os.access(path.parent, os.W_OK):
            raise ArmingError(f"{path.parent} can't be written", help="mount it writable, then run it again")


def _must(result: Result, what: str) -> None:
    if not result.ok:
        raise ArmingError(f"{what}: {result.complaint}", help="`systemctl status failshut` and `journalctl -t failshut` say more")
