"""A whole machine in qemu: Debian's own kernel, one network card, and whatever may befall a computer from power-on to power-off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self

from boot import noise
from boot.room import Room, children
from boot.roots import REPOSITORY, must
from boot.router import LINK_LOCAL, MAC, MACHINE4, MACHINE6, POLICY, PREFIXES, ROUTER4, Router
from failshut.drill.judgement.judge import Case
from failshut.drill.network.netns import SetUpError
from failshut.drill.network.wait import until
from failshut.host.run import Result
from vm import agent
from vm.control import Agent, Qmp
from vm.images import Image
from vm.scratch import scratch
from vm.wire import Wire

# Emulated, beside other work, a boot takes a minute or two.
BOOT_DEADLINE = 600
# The card's slot gives it its name: a card in slot 5 is renamed to ens5 as the machine boots, as on a real one.
CARD, SECOND = "ens5", "ens6"
_SECOND_MAC, SECOND4 = "00:11:22:33:44:66", "192.168.77.3"
_SECOND6 = ("fd77::211:22ff:fe33:4466", "fe80::211:22ff:fe33:4466")
ROGUE4, ROGUE_DNS = "192.168.77.66", "192.168.77.53"
# What a machine without a screen is told, and what makes an emulated one faster. A panic starts it over at once.
_KERNEL_WORDS = (
    "root=/dev/vda rw console=ttyS0 TERM=dumb quiet panic=-1 no_console_suspend"
    " mitigations=off audit=0 apparmor=0 selinux=0 random.trust_cpu=on"
)
_CPU = {"tcg": "qemu64,+ssse3,+sse4.1,+sse4.2,+rdrand", "kvm": "host"}


class Machine:
    """A machine that is off. Its disk lives as long as the block."""

    def __init__(self, room: Room, router: Router, image: Image, accelerator: str, kernel_words: str = "") -> None:
        self.room, self.router, self.image = room, router, image
        self.wire = Wire()
        self._accelerator = accelerator
        self._kernel_words = f"{_KERNEL_WORDS} {kernel_words}".strip()
        self._starts = 0
        self._second = False
        self._qemu: subprocess.Popen[bytes] | None = None
        self._dhcp: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self.path = self._stack.enter_context(scratch())
        self.initramfs = self.image.initramfs
        must(("cp", "--sparse=always", str(self.image.disk), str(self._disk)))
        must(("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", str(REPOSITORY / "src"), str(self.path / "source"), "64M"))
        self.write_offline(
            {
                # An emulated processor can do ten rounds of the noise a second, and then nothing else.
                "/usr/local/lib/noise.py": Path(noise.__file__).read_text().replace("PERIOD = 0.01", "PERIOD = 0.2"),
                "/usr/local/lib/agent.py": Path(agent.__file__).read_text(),
                "/etc/wireguard/wg0.conf": self.router.config,
                "/etc/failshut/failshut.toml": POLICY,
            }
        )
        self._lay("cable")
        self.router.forget_client()
        self.serve_addresses()
        return self

    def __exit__(self, *_: object) -> None:
        if self._qemu:
            self.power_cut()
        self._stack.close()

    @property
    def case(self) -> Case:
        """What the judge must know of the machine."""
        first = frozenset(ip_address(each) for each in (MACHINE4, MACHINE6, LINK_LOCAL))
        second = frozenset(ip_address(each) for each in (SECOND4, *_SECOND6))
        links = frozenset(ip_network(each) for each in PREFIXES)
        return Case(self.router.policy, {CARD: first, SECOND: second}, links={CARD: links, SECOND: links})

    # Power.

    def power_on(self) -> None:
        """Start qemu; nothing waits for the machine."""
        self._starts += 1
        folder = self.path
        capture = self._capture("cable")
        self._qemu = self.room.start(
            *("nice", "-n", "10", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", f"pc,accel={self._accelerator}", "-cpu", _CPU[self._accelerator], "-smp", "1", "-m", "640"),
            *("-global", "PIIX4_PM.disable_s3=0", "-device", "virtio-rng-pci,addr=0x8"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.initramfs), "-append", self._kernel_words),
            *("-drive", f"file={self._disk},format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk,addr=0x3"),
            *("-drive", f"file={folder}/source,format=raw,readonly=on,if=none,id=source"),
            *("-device", "virtio-blk-pci,drive=source,addr=0x4"),
            *("-chardev", f"file,id=console,path={folder}/console,append=on", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=qmp,path={folder}/qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
            *("-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off", "-device", "virtio-serial-pci,addr=0x9"),
            *("-device", f"virtserialport,chardev=agent,name={agent.PORT}"),
            *("-netdev", "tap,id=cable,ifname=cable,script=no,downscript=no,vnet_hdr=off"),
            *("-object", f"filter-dump,id=dump-cable,netdev=cable,file={capture},queue=rx"),
            *("-device", f"virtio-net-pci,id=card,netdev=cable,mac={MAC},addr=0x5,romfile="),
            net=self.router.namespace,
            log=folder / "qemu",
        )
        self.wire.plug(CARD, capture)
        try:
            self.qmp = Qmp(self._connect("qmp"))
            self.agent = Agent(self._connect("agent"))
        except SetUpError as error:
            _kill(self._qemu)
            self._qemu = None
            raise SetUpError(f"{error}:\n{self.console()}") from error

    def await_boot(self) -> str:
        """Wait until systemd has done what it would; return its word for that, "running" at best."""
        if not self.run("true", timeout=BOOT_DEADLINE).ok:
            raise SetUpError(f"the machine did not boot:\n{self.console()}")
        return self.run("systemctl", "is-system-running", "--wait", timeout=BOOT_DEADLINE).out.strip()

    def boot(self) -> str:
        """Switch on and wait."""
        self.power_on()
        return self.await_boot()

    def restart(self, *argv: str) -> str:
        """Have the machine start over by a program that it runs, and wait."""
        self.qmp.forget_events()
        self.agent.tell(argv)
        if not self.qmp.await_event("RESET", BOOT_DEADLINE):
            raise SetUpError(f"the machine does not start over:\n{self.console()}")
        return self.await_boot()

    def reset(self) -> str:
        """Press the button, and wait."""
        self.qmp.do("system_reset")
        return self.await_boot()

    def power_off(self) -> None:
        """Power off from inside, and wait until qemu is gone."""
        self.agent.tell(("systemctl", "poweroff"))
        self._qemu.wait(BOOT_DEADLINE)
        self._hang_up()

    def power_cut(self) -> None:
        """End qemu in an instant."""
        _kill(self._qemu)
        self._hang_up()

    # Cards.

    def unplug(self) -> None:
        """Take the card out, and wait until the machine has let it go."""
        self.qmp.forget_events()
        self.qmp.do("device_del", id="card")
        if not self.qmp.await_event("DEVICE_DELETED", 120):
            raise SetUpError("the machine does not let its card go")

    def replug(self) -> None:
        """Put the same card in again."""
        self.qmp.do("device_add", driver="virtio-net-pci", id="card", netdev="cable", mac=MAC, addr="0x5", romfile="")

    def plug_second(self) -> None:
        """Put a second card in, on the same network."""
        if not self._second:
            self._lay("second")
            self.qmp.do("netdev_add", type="tap", id="second", ifname="second", script="no", downscript="no", vnet_hdr=False)
            capture = self._capture("second")
            self.qmp.do("object-add", **_capture_of("second", capture))
            self.wire.plug(SECOND, capture)
            self._second = True
        self.qmp.do(
            "device_add", driver="virtio-net-pci", id="second-card", netdev="second", mac=_SECOND_MAC, addr="0x6", romfile=""
        )

    def unplug_second(self) -> None:
        """Take the second card out."""
        self.qmp.forget_events()
        self.qmp.do("device_del", id="second-card")
        if not self.qmp.await_event("DEVICE_DELETED", 120):
            raise SetUpError("the machine does not let its second card go")

    # The neighbourhood.

    def serve_addresses(self, *, rogue: bool = False) -> None:
        """Give addresses by DHCP and router advertisements; a rogue server names itself the way to everything."""
        if self._dhcp:
            _kill(self._dhcp)
        options = ()
        if rogue:
            # 198.51.100.0/24 is where the noise goes.
            routes = f"198.51.100.0/24,{ROGUE4},0.0.0.0/1,{ROGUE4},128.0.0.0/1,{ROGUE4},0.0.0.0/0,{ROGUE4}"
            options = (f"--dhcp-option=121,{routes}", f"--dhcp-option=3,{ROGUE4}", f"--dhcp-option=6,{ROGUE_DNS}")
            self.router.namespace.batch(f"address replace {ROGUE4}/24 dev lan\naddress replace {ROGUE_DNS}/24 dev lan")
        self._dhcp = self.room.start(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--interface=lan"),
            *("--bind-dynamic", f"--dhcp-range={MACHINE4},{SECOND4},1h", "--dhcp-range=fd77::,ra-only", "--enable-ra"),
            *(f"--dhcp-host={MAC},{MACHINE4}", f"--dhcp-host={_SECOND_MAC},{SECOND4}", f"--listen-address={ROUTER4}"),
            *("--dhcp-authoritative", "--no-ping", "--dhcp-leasefile=/run/leases", "--pid-file=/run/dnsmasq.pid", *options),
            net=self.router.namespace,
        )
        # systemd-networkd asks once for what it is told to renew; unheard, it is silent for almost half an hour (RFC 2131, 4.4.5).
        if not until(lambda: self.router.namespace.run("ss", "-Hlun", "sport = :67").out, within=60, step=0.05):
            raise SetUpError("the DHCP server does not listen")

    def _came_out(self) -> int:
        link = json.loads(self.router.namespace.do("ip", "-json", "-statistics", "link", "show", "cable"))
        return link[0]["stats64"]["rx"]["packets"]

    def lost(self) -> int:
        """How many frames came out of the cable that are in no capture. The machine stands still meanwhile."""
        if self._qemu:
            self.qmp.do("stop")
        try:
            return self._came_out() - self.wire.seen(CARD)
        finally:
            if self._qemu:
                self.qmp.do("cont")

    # Inside.

    def run(self, *argv: str, stdin: str | None = None, timeout: float = 120) -> Result:
        """Run a program in the running machine."""
        return self.agent.run(argv, stdin, timeout)

    def eventually(self, *argv: str, within: float = 300) -> bool:
        """Wait until a program succeeds in the machine; return whether it did."""
        return until(lambda: self.run(*argv).ok, within=within, step=0.2)

    def write(self, path: str, text: str) -> None:
        """Write a file in the running machine."""
        written = self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1" && sync', "sh", path, stdin=text)
        if not written.ok:
            raise SetUpError(f"{path}: {written.complaint}")

    def noise(self) -> dict[str, tuple[int, int]]:
        """Return, by kind, how often the noise tried to send since the boot and how often the kernel took it."""
        lines = self.run("cat", noise.COUNTS).out.splitlines()
        return {kind: (int(tried), int(taken)) for kind, tried, taken in (line.split() for line in lines)}

    def hear_noise(self, times: int = 20) -> None:
        """Wait until every kind was tried some times more."""
        before = self.noise().get("udp6", (0, 0))[0]
        if not until(lambda: self.noise().get("udp6", (0, 0))[0] > before + times, within=300, step=0.2):
            raise SetUpError("the noise has stopped")

    def carries(self) -> bool:
        """Whether the tunnel carries the noise within a few handshakes' time."""
        return self.router.carries(within=300)

    def journal(self) -> str:
        """Return the journal of this boot."""
        return self.run("journalctl", "--boot", "--no-pager", "--output=short-monotonic").out

    def console(self) -> str:
        """Return what the machine and qemu printed, the end of it."""
        texts = [(self.path / name).read_text(errors="replace") for name in ("console", "qemu") if (self.path / name).exists()]
        return "\n".join(text[-4000:] for text in texts)

    # The disk of a machine that is off.

    def write_offline(self, files: dict[str, str]) -> None:
        """Write files on the disk while the machine is off."""
        orders = []
        for number, (path, text) in enumerate(files.items()):
            source = self.path / f"written-{number}"
            source.write_text(text)
            above = [str(each) for each in reversed(Path(path).parents)][1:]
            orders += [*(f"mkdir {each}" for each in above), f"rm {path}", f"write {source} {path}"]
        subprocess.run(
            ("debugfs", "-w", "-f", "-", str(self._disk)), input="\n".join(orders).encode(), capture_output=True, check=True
        )
        for path, text in files.items():
            if self.read_offline(path) != text.encode():
                raise SetUpError(f"{path} was not written on the disk")

    def read_offline(self, path: str) -> bytes:
        """Read a file of the disk while the machine is off."""
        return subprocess.run(("debugfs", "-R", f"cat {path}", str(self._disk)), capture_output=True, check=True).stdout

    def take_initramfs(self) -> None:
        """Have the next start use the initramfs that the machine has made for itself."""
        listed = subprocess.run(
            ("debugfs", "-R", "ls -p /boot", str(self._disk)), capture_output=True, text=True, check=True
        ).stdout
        name = next(word for line in listed.splitlines() for word in line.split("/") if word.startswith("initrd.img-"))
        self.initramfs = self.path / "initramfs"
        self.initramfs.write_bytes(self.read_offline(f"/boot/{name}"))

    @property
    def _disk(self) -> Path:
        return self.path / "disk"

    def _capture(self, cable: str) -> Path:
        return self.path / f"{cable}-{self._starts}.pcap"

    def _lay(self, cable: str) -> None:
        self.router.namespace.batch(f"tuntap add dev {cable} mode tap\nlink set {cable} master lan up")

    def _connect(self, name: str) -> Path:
        """Wait until qemu listens; return where."""
        path = self.path / name

        def is_there() -> bool:
            if self._qemu.poll() is not None:
                raise SetUpError(f"qemu ended with {self._qemu.returncode}:\n{self.console()}")
            return path.is_socket()

        if not until(is_there, within=60, step=0.05):
            raise SetUpError(f"qemu does not listen:\n{self.console()}")
        return path

    def _hang_up(self) -> None:
        self.qmp.close()
        self.agent.close()
        self._qemu = None


def _capture_of(cable: str, file: Path) -> dict[str, str]:
    # What the card hands to the cable, and not what comes back.
    return {"qom-type": "filter-dump", "id": f"dump-{cable}", "netdev": cable, "file": str(file), "queue": "rx"}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program of the room's, which is the child of what brought it there."""
    for each in children(process.pid):
        os.kill(each, signal.SIGKILL)
    process.wait(60)
