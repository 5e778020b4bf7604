"""The lock in the initramfs, for a machine whose network is configured there; only where the policy asks for it.

initramfs-tools takes the sealed lock in by a hook of ours. An initramfs that is older than the lock does no harm: the boot unit
replaces what it loaded, and a machine that was disarmed since takes it off as soon as its root file system is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from failshut.arming.errors import ArmingError
from failshut.boot.artefacts import initramfs_files
from failshut.boot.places import ARMED_DIRECTORY, INITRAMFS_DIRECTORY, INITRAMFS_HOOK, LOADER
from failshut.host.files import sync_directory
from failshut.host.run import Result, find, run
from failshut.model.plan import FileChange
from failshut.model.policy import Policy

COMMAND = ("update-initramfs", "-u", "-k", "all")
# In seconds. Each kernel's takes half a minute on a slow machine.
_PATIENCE = 1800.0
_COMMAND_LINE, _DROPBEAR = Path("/proc/cmdline"), Path("/usr/share/initramfs-tools/scripts/init-premount/dropbear")
_NO_NETWORK = ("", "off", "none")


def is_installed() -> bool:
    """Whether the next initramfs will hold a lock."""
    return Path(INITRAMFS_HOOK).exists()


def is_outdated(wanted: bool, changes: Iterable[FileChange]) -> bool:
    """Whether the initramfs must be written anew: it holds a lock that it shall not, or what it holds changes."""
    if not wanted:
        return is_installed()
    ours = {each.path for each in initramfs_files()} | {LOADER}
    sealed = str(ARMED_DIRECTORY)
    return any(each.is_change for each in changes if each.path in ours or each.path.startswith(sealed))


def must_be_possible() -> None:
    """Raise `ArmingError` where nothing makes an initramfs that we know."""
    if not Path(INITRAMFS_DIRECTORY).is_dir() or find(COMMAND[0]) is None:
        raise ArmingError(
            "[boot] initramfs = true, but there is no update-initramfs here",
            help="install initramfs-tools, or take it out of the policy; dracut and mkinitcpio are not served",
        )


def notes(policy: Policy) -> Iterator[str]:
    """Yield what the user must know of the network in this machine's initramfs."""
    early = _early_network()
    if early and not policy.initramfs:
        yield f"the initramfs brings the network up ({early}), earlier than the lock, unless [boot] initramfs = true"
    if policy.initramfs and _DROPBEAR.exists() and not policy.inbound:
        yield "nobody unlocks this machine from afar until [[allow.inbound]] names the port of dropbear in the initramfs"


def write_anew() -> None:
    """Have initramfs-tools write every kernel's initramfs anew. Raises `ArmingError`; then the old ones are still there."""
    result = _write()
    if not result.ok:
        words = result.complaint.splitlines()
        raise ArmingError(
            f"the initramfs can't be written: {words[-1] if words else result.code}", help=f"`{' '.join(COMMAND)}` says more"
        )


def try_to_write_anew() -> str:
    """Have them written anew where that may fail; return the complaint, or nothing."""
    if find(COMMAND[0]) is None:
        return ""
    result = _write()
    return "" if result.ok else result.complaint


def remove_files() -> None:
    """Take our hook and scripts away; the initramfs that is there is the old one until it is written anew. Raises OSError."""
    for each in reversed(initramfs_files()):
        with contextlib.suppress(FileNotFoundError):
            Path(each.path).unlink()
            sync_directory(Path(each.path).parent)


def _write() -> Result:
    return run(COMMAND, timeout=_PATIENCE)


def _early_network() -> str:
    """Return the reason to think that the initramfs configures a network; nothing without one."""
    try:
        words = _COMMAND_LINE.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        words = []
    for word in words:
        if word.startswith("ip=") and word.removeprefix("ip=") not in _NO_NETWORK:
            return f"{word} on the kernel's command line"
    return "dropbear-initramfs is installed" if _DROPBEAR.exists() else ""
