"""A Debian machine that really boots: systemd in a container on an overlay of a cached tree, with one cable to the router."""

from __future__ import annotations

import os
import signal
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Self

from boot import noise
from boot.room import Room, children
from boot.roots import REPOSITORY, SOURCE
from boot.router import MACHINE4, MACHINE6, POLICY, ROUTER4, ROUTER6, Router
from boot.wire import DEVICE
from failshut.drill.network.netns import SetUpError
from failshut.drill.network.wait import until
from failshut.host.run import Result, run

# Nothing of the tester's own session comes along: it may be one over SSH.
_LOGIN = ("env", "-i", "HOME=/root", "LC_ALL=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
# What has no namespace is not the machine's: the clock, the kernel's modules, the power switch.
_BOUNDED = ("setpriv", "--bounding-set=-sys_time,-sys_module,-sys_boot,-sys_rawio")
BOOT_DEADLINE, STOP_DEADLINE = 90, 60
# What nspawn exits with when the machine asked for a reboot and nspawn is not the one to decide (systemd's EXIT_FORCE_RESTART).
REBOOTED = 133

_DISK = """
set -e
mkdir "/run/$2"
mount -t tmpfs none "/run/$2"
mkdir "/run/$2/upper" "/run/$2/work" "/run/$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=/run/$2/upper,workdir=/run/$2/work" "/run/$2/root"
"""

# As early as a unit can: no dependencies, no order, the first to get its turn. Nothing stops it at the end, and systemd's last
# killing spares what is named @.
NOISE_UNIT = """\
[Unit]
Description=Sends by every way there is
DefaultDependencies=no

[Service]
CPUWeight=10000
ExecStart=@/usr/bin/python3 @noise -I -S -E /usr/local/lib/noise.py
Restart=always
RestartSec=10ms

[Install]
WantedBy=sysinit.target
"""


class Address(StrEnum):
    """Who gives the machine its address: systemd-networkd; ifupdown, whose DHCP client speaks under IP; NetworkManager; nobody.

    What is static is there before the first process: whoever made the machine's namespace set it.
    """

    DHCP = "dhcp"
    IFUPDOWN = "ifupdown"
    NETWORK_MANAGER = "NetworkManager"
    STATIC = "static"

    @property
    def manager(self) -> str:
        """The service that manages the network."""
        others = {Address.IFUPDOWN: "networking.service", Address.NETWORK_MANAGER: "NetworkManager.service"}
        return others.get(self, "systemd-networkd.service")


# The file that says so. The judge knows the addresses that follow from the hardware's, so those are asked for.
_NETWORK = {
    Address.DHCP: ("systemd/network/10-cable.network", f"[Match]\nName={DEVICE}\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=yes\n"),
    Address.IFUPDOWN: ("network/interfaces", f"auto {DEVICE}\niface {DEVICE} inet dhcp\n"),
    Address.NETWORK_MANAGER: ("NetworkManager/conf.d/cable.conf", "[connection]\nipv6.addr-gen-mode=0\nipv6.ip6-privacy=0\n"),
    Address.STATIC: ("systemd/network/10-cable.network", f"[Match]\nName={DEVICE}\n[Link]\nUnmanaged=yes\n"),
}

_STATIC = f"""
address add {MACHINE4}/24 dev {DEVICE}
address add {MACHINE6}/64 dev {DEVICE} nodad
link set {DEVICE} up
route add default via {ROUTER4}
route add default via {ROUTER6}
"""


class Machine:
    """A machine that is off. Its disk lives as long as the block, so that a reboot finds what was written before it."""

    name = "machine"
    static = _STATIC

    def __init__(self, room: Room, router: Router, tree: Path, address: Address) -> None:
        self.room, self.router, self.address = room, router, address
        self.disk = f"/run/{self.name}/root"
        self._tree = tree
        self._boots = 0
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        self.room.do("sh", "-c", _DISK, "sh", str(self._tree), self.name)
        self.write("/etc/hostname", f"{self.name}\n")
        self.furnish()
        return self

    def furnish(self) -> None:
        """Put on the disk what the machine shall have when it boots."""
        path, text = _NETWORK[self.address]
        self.write(f"/etc/{path}", text)
        self.write("/etc/wireguard/wg0.conf", self.router.config)
        self.write("/etc/failshut/failshut.toml", POLICY)
        self.write("/usr/local/lib/noise.py", Path(noise.__file__).read_text())
        self.write("/etc/systemd/system/noise.service", NOISE_UNIT)
        # As tests/conftest.py has it for the tester's own.
        self.write("/etc/systemd/system.conf.d/go.conf", "[Manager]\nDefaultEnvironment=GOMAXPROCS=1\n")
        self.systemctl_offline("enable", "noise", self.address.manager, "wg-quick@wg0")
        if self.address is Address.STATIC:
            # It would wait for a link that it may not touch.
            self.systemctl_offline("mask", "systemd-networkd-wait-online")
        else:
            self.router.serve_addresses()

    def __exit__(self, *_: object) -> None:
        if self._nspawn:
            self.power_cut()

    def boot(self) -> str:
        """Switch on and wait until systemd has done what it would; return its word for that, "running" at best."""
        self._boots += 1
        machine = self.room.namespace(f"{self.name}-{self._boots}")
        self.router.plug(machine)
        machine.batch("link set lo up")
        if self.address is Address.STATIC:
            machine.batch(self.static)
        self._nspawn = self.room.start(
            *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.disk}", f"--machine={self.name}", "--settings=no"),
            *(f"--network-namespace-path=/run/netns/{machine.name}", "--register=no", "--keep-unit", "--link-journal=no"),
            *("--capability=CAP_NET_ADMIN", "--bind=/dev/net/tun", "--resolv-conf=off", "--timezone=off"),
            # For a container in the machine.
            "--system-call-filter=add_key keyctl bpf",
            f"--bind-ro={REPOSITORY}/src:{SOURCE}",
            # The machine's cgroups are what systemd expects, whatever those around it are; /proc/sys/net may be written.
            env={"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
            log=self.room.path / f"run/{self.name}-console",
            apart=self.name,
        )
        if not until(self._is_up, within=BOOT_DEADLINE, step=0.05):
            raise SetUpError(f"the machine did not boot:\n{self.console()}")
        return self.run("systemctl", "is-system-running", "--wait", timeout=BOOT_DEADLINE).out.strip()

    def reboot(self) -> str:
        """Reboot from inside. A boot begins in a fresh namespace: a kernel's rules don't outlive it."""
        self.stop("reboot")
        return self.boot()

    def power_off(self) -> None:
        """Power off from inside, and wait until every process is gone."""
        self.stop("poweroff")

    def stop(self, verb: str) -> None:
        """Have the machine stop by `systemctl reboot` or `systemctl poweroff`."""
        self.run("systemctl", verb)
        code = self._nspawn.wait(STOP_DEADLINE)
        self._nspawn = None
        if code != {"reboot": REBOOTED, "poweroff": 0}[verb]:
            raise SetUpError(f"{verb} ended with {code}:\n{self.console()}")

    def power_cut(self) -> None:
        """End every process of the machine in an instant."""
        # With the first of them the kernel kills all; nspawn sees it and lets the disk go.
        for process in (self._leader,) if self._leader else children(self._nspawn.pid):
            os.kill(process, signal.SIGKILL)
        self._nspawn.wait(STOP_DEADLINE)
        self._nspawn = None

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 60) -> Result:
        """Run a program in the running machine."""
        return run(("nsenter", f"--target={self._leader}", "--all", *_BOUNDED, *_LOGIN, *argv), stdin=stdin, timeout=timeout)

    def eventually(self, *argv: str, within: float = 60) -> bool:
        """Wait until a program succeeds in the machine; return whether it did."""
        return until(lambda: self.run(*argv).ok, within=within, step=0.05)

    def write(self, path: str, text: str) -> None:
        """Write a file on the disk, whether the machine is on or off."""
        self._on_disk("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, stdin=text)

    def remove(self, path: str) -> None:
        """Remove a file from the disk."""
        self._on_disk("rm", path)

    def read(self, path: str) -> str:
        """Return a file's text from the disk; empty when it is not there."""
        return self.room.run("chroot", self.disk, "cat", path).out

    def systemctl_offline(self, *argv: str) -> None:
        """Enable, disable or mask units on the disk."""
        self.room.do("systemctl", "--quiet", f"--root={self.disk}", *argv)

    def noise(self) -> dict[str, tuple[int, int]]:
        """Return, by kind, how often the noise tried to send since the boot and how often the kernel took it."""
        counts = Path(f"/proc/{self._leader}/root{noise.COUNTS}")
        lines = counts.read_text().splitlines() if counts.exists() else []
        return {kind: (int(tried), int(taken)) for kind, tried, taken in (line.split() for line in lines)}

    def hear_noise(self, times: int = 35) -> None:
        """Wait until every kind was tried some times more."""
        before = self._tried()
        if not until(lambda: self._tried() > before + times, within=60, step=0.05):
            raise SetUpError("the noise has stopped")

    def _tried(self) -> int:
        """Return how often each kind was tried at least."""
        return min((tried for tried, _ in self.noise().values()), default=0)

    def journal(self) -> str:
        """Return the journal of every boot so far, whether the machine is on or off."""
        return self.room.run("journalctl", f"--directory={self.disk}/var/log/journal", "--no-pager", "--output=short-monotonic").out

    def console(self) -> str:
        """Return what the machine and nspawn printed, the end of it."""
        return (self.room.path / f"run/{self.name}-console").read_text(errors="replace")[-4000:]

    def _on_disk(self, *argv: str, stdin: str | None = None) -> None:
        """Run a program of the disk's on the disk, whose links then lead nowhere else."""
        self.room.do("chroot", self.disk, *argv, stdin=stdin)

    def _is_up(self) -> bool:
        """Whether systemd answers in the machine; finds its first process on the way."""
        if self._nspawn.poll() is not None:
            raise SetUpError(f"nspawn ended with {self._nspawn.returncode}:\n{self.console()}")
        self._leader = _first_of(self._nspawn.pid)
        return bool(self._leader) and Path(f"/proc/{self._leader}/root/run/systemd/private").is_socket()


def _first_of(process: int) -> int:
    """Return the first process of the PID namespace under this one that has a PID namespace of its own; 0 while there is none."""
    for child in children(process):
        numbers = _numbers(child)
        if numbers[-1:] == [1] and len(numbers) > 2:
            return child
        if found := _first_of(child):
            return found
    return 0


def _numbers(process: int) -> list[int]:
    """Return a process's number in each PID namespace, from ours to its own."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return []
    return next([int(each) for each in line.split()[1:]] for line in status.splitlines() if line.startswith("NSpid:"))
