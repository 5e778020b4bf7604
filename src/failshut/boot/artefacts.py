"""The boot's files and their places, in the order in which they are written: what others refer to comes first."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from failshut.boot.places import (
    BOOT_UNIT,
    GENERATOR,
    INITRAMFS_DIRECTORY,
    INITRAMFS_HOOK,
    LOADER,
    PERSISTENT_UNIT,
    REFRESH_UNIT,
    ROUTER,
    UNIT_DIRECTORY,
    UNITS,
    WATCHING_UNITS,
)
from failshut.emit.iptables import body_text
from failshut.emit.nft import emit
from failshut.lower.iptables import shut as iptables_shut
from failshut.lower.shut import everything, guard_everything
from failshut.model.backend import BackendName
from failshut.model.ruleset import Family

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


def loader(backend: BackendName = BackendName.NFTABLES) -> BootFile:
    """Return the script that puts the lock on from files alone, with the lock that drops everything inside it."""
    if backend is BackendName.IPTABLES:
        shut = body_text(iptables_shut.everything(), Family.IP)
        return BootFile(LOADER, _source("load-iptables").replace("@EVERYTHING@\n", shut), _EXECUTABLE)
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
        *(_drop_in(manager, drop_in) for manager in NETWORK_MANAGERS),
        *(_drop_in(unit, drop_in + _turns(unit)) for unit in TUNNEL_UNITS),
        _drop_in("nftables.service", _source("nftables.conf")),
        BootFile("/etc/udev/rules.d/79-failshut.rules", _source("failshut.rules")),
        BootFile("/etc/systemd/networkd.conf.d/failshut.conf", _source("networkd.conf")),
        BootFile("/etc/sysctl.d/60-failshut.conf", _source("sysctl.conf")),
    )


def iptables_files(*, persistent: bool) -> tuple[BootFile, ...]:
    """Return the same for a machine whose backend is iptables: no guard, no layer under IP, no monitor.

    `persistent`: netfilter-persistent is there, and wg-quick waits for it as for the lock.
    """
    manager, after = _source("requires-the-lock.conf"), _source("after-netfilter-persistent.conf") if persistent else ""
    return (
        BootFile(f"{UNIT_DIRECTORY}/{BOOT_UNIT}", _with_iptables(_source(BOOT_UNIT))),
        BootFile(GENERATOR, _source("generator-iptables"), _EXECUTABLE),
        *(_drop_in(each, manager) for each in NETWORK_MANAGERS),
        *(_drop_in(each, manager + after + _turns(each)) for each in TUNNEL_UNITS),
        *((_drop_in(PERSISTENT_UNIT, _source("netfilter-persistent.conf")),) if persistent else ()),
        BootFile("/etc/systemd/networkd.conf.d/failshut.conf", _source("networkd.conf")),
        BootFile("/etc/sysctl.d/60-failshut.conf", _source("sysctl.conf")),
    )


def every_file() -> tuple[BootFile, ...]:
    """Return every file that either backend may have written, each once, for whoever takes them away."""
    both = {each.path: each for each in (*iptables_files(persistent=True), *systemd_files())}
    return tuple(both.values())


def wanted_by(unit: str) -> tuple[str, ...]:
    """Return the targets that want an enabled unit, by its text."""
    lines = (line.partition("=") for line in unit.splitlines())
    return tuple(target for key, _, value in lines if key == "WantedBy" for target in value.split())


def _with_iptables(unit: str) -> str:
    """Return the boot unit with the question to iptables in the place of that to nft."""
    asked = f"ExecStartPost=/bin/sh {LOADER} holds\n"
    return "".join(asked if line.startswith("ExecStartPost=") else line for line in unit.splitlines(keepends=True))


def initramfs_files() -> tuple[BootFile, ...]:
    """Return what has initramfs-tools put the lock into the initramfs, and load it there."""
    return (
        BootFile(f"{INITRAMFS_DIRECTORY}/conf.d/failshut", _source("initramfs.conf")),
        BootFile(f"{INITRAMFS_DIRECTORY}/scripts/init-top/failshut", _source("initramfs-top"), _EXECUTABLE),
        BootFile(f"{INITRAMFS_DIRECTORY}/scripts/init-bottom/failshut", _source("initramfs-bottom"), _EXECUTABLE),
        BootFile(INITRAMFS_HOOK, _source("initramfs-hook"), _EXECUTABLE),
    )


def _turns(unit: str) -> str:
    return _source("wg-quick.conf") if unit.startswith("wg-quick@") else ""


def _drop_in(unit: str, text: str) -> BootFile:
    return BootFile(f"{UNIT_DIRECTORY}/{unit}.d/failshut.conf", text)


def _source(name: str) -> str:
    return files("failshut.boot").joinpath("files", name).read_text(encoding="utf-8")
