"""The boot's files and their places, in the order in which they are written: what others refer to comes first."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from failshut.boot.places import (
    GENERATOR,
    INITRAMFS_DIRECTORY,
    INITRAMFS_HOOK,
    LOADER,
    REFRESH_UNIT,
    ROUTER,
    UNIT_DIRECTORY,
    UNITS,
    WATCHING_UNITS,
)
from failshut.emit.nft import emit
from failshut.lower.shut import everything, guard_everything

# What brings interfaces up: each requires the lock, so that without a lock there is no network. A missing one does no harm.
NETWORK_MANAGERS = (
    "systemd-networkd.service",
    "NetworkManager.service",
    "networking.service",
    "ifup@.service",
    "dhcpcd.service",
    "dhcpcd@.service",
    "connman.service",
    "iwd.service",
)
# What brings tunnels up, an instance for each: in order behind the lock, and none without it.
TUNNEL_UNITS = ("wg-quick@.service", "openvpn-client@.service", "openvpn@.service")
# What sysctl.conf says, for the running kernel: by the path under /proc/sys.
SYSCTLS = (("net/ipv4/conf/all/src_valid_mark", "1"),)
# Where systemd itself finds programs (systemd.exec(5)): a package's /usr/bin, an administrator's /usr/local/bin.
PROGRAM = "failshut"
_EXECUTABLE, _READABLE = 0o755, 0o644


@dataclass(frozen=True, slots=True)
class BootFile:
    """One file of the boot: its path, its text and its mode."""

    path: str
    text: str
    mode: int = _READABLE


def loader() -> BootFile:
    """Return the script that puts the lock on from files alone, with the lock that drops everything inside it."""
    text = _source("load").replace("@GUARD@\n", emit(guard_everything()))
    return BootFile(LOADER, text.replace("@EVERYTHING@\n", emit(everything())), _EXECUTABLE)


def router() -> BootFile:
    """Return the script that puts the routing on, from files alone too."""
    return BootFile(ROUTER, _source("route"), _EXECUTABLE)


def systemd_files(program: str = PROGRAM) -> tuple[BootFile, ...]:
    """Return the units, the generator, the drop-ins, the udev rule and the settings of a machine that runs systemd.

    `program` is the command line that runs failshut, for the units that watch; no other needs it.
    """
    drop_in = _source("requires-the-lock.conf")
    return (
        *(BootFile(f"{UNIT_DIRECTORY}/{unit}", _source(unit)) for unit in UNITS),
        *(
            BootFile(f"{UNIT_DIRECTORY}/{unit}", _source(unit).replace("@PROGRAM@", program))
            for unit in (REFRESH_UNIT, *WATCHING_UNITS)
        ),
        BootFile(GENERATOR, _source("generator").replace("@EVERYTHING@\n", emit(everything())), _EXECUTABLE),
        *(_drop_in(manager, drop_in) for manager in (*NETWORK_MANAGERS, *TUNNEL_UNITS)),
        _drop_in("nftables.service", _source("nftables.conf")),
        BootFile("/etc/udev/rules.d/79-failshut.rules", _source("failshut.rules")),
        BootFile("/etc/systemd/networkd.conf.d/failshut.conf", _source("networkd.conf")),
        BootFile("/etc/sysctl.d/60-failshut.conf", _source("sysctl.conf")),
    )


def initramfs_files() -> tuple[BootFile, ...]:
    """Return what has initramfs-tools put the lock into the initramfs, and load it there."""
    return (
        BootFile(f"{INITRAMFS_DIRECTORY}/conf.d/failshut", _source("initramfs.conf")),
        BootFile(f"{INITRAMFS_DIRECTORY}/scripts/init-top/failshut", _source("initramfs-top"), _EXECUTABLE),
        BootFile(f"{INITRAMFS_DIRECTORY}/scripts/init-bottom/failshut", _source("initramfs-bottom"), _EXECUTABLE),
        BootFile(INITRAMFS_HOOK, _source("initramfs-hook"), _EXECUTABLE),
    )


def _drop_in(unit: str, text: str) -> BootFile:
    return BootFile(f"{UNIT_DIRECTORY}/{unit}.d/failshut.conf", text)


def _source(name: str) -> str:
    return files("failshut.boot").joinpath("files", name).read_text(encoding="utf-8")
