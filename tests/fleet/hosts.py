"""A fleet in a room: hosts that really boot, on one bridge with the controller, which reaches them by SSH alone.

┌─ controller ─────────────────┐   ┌─ h1 ─────────────────┐
│ lan (bridge) 192.168.77.1/24 ├───┤ host0 192.168.77.11  │ …
│ lo  198.51.100.80 (a site)   │   │ sshd, failshut       │
└──────────────────────────────┘   └──────────────────────┘
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Self

from boot.machine import Address, Machine
from boot.room import Room, RoomNamespace
from boot.roots import REPOSITORY
from boot.wire import DEVICE
from failshut.drill.network.netns import Namespace
from failshut.drill.network.wait import until
from failshut.host.run import Result
from two_sites import web

LAN, CONTROLLER, SITE = "192.168.77", "192.168.77.1", "198.51.100.80"
COLLECTION = REPOSITORY / "packaging/ansible"
ANSIBLE = Path(sys.executable).parent
TUNNEL = """\
[Interface]
PrivateKey = eEvqkSJVw/7cGUEcJXmeHiNFDLBGOz8GpScshecvNHU=
Address = 10.99.0.2/32

[Peer]
PublicKey = K30I8eIxuBL3OA43Xl34x0Tc60wqyDBx4msVm8VLkAE=
Endpoint = 203.0.113.10:51820
AllowedIPs = 0.0.0.0/0, ::/0
"""
_SETTINGS = """\
[defaults]
collections_path = {directory}/collections
inventory = {directory}/inventory
local_tmp = {directory}/tmp
host_key_checking = false
retry_files_enabled = false
interpreter_python = /usr/bin/python3
forks = 5
[ssh_connection]
# Else each module is a file that is brought first, and most of the test's time.
pipelining = true
ssh_args = -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
control_path_dir = {directory}/cp
"""
# Whatever a host's lock is made of, in a form that compares; but not what an arming that was cut off had staged, which no boot
# looks at and the next arming clears away.
_FINGERPRINT = """
nft --stateless --terse list ruleset | sort
ip rule; ip -6 rule
cd /etc && find failshut systemd udev sysctl.d ansible wireguard -type f ! -path '*/armed/.*' 2>/dev/null | sort | xargs sha256sum
"""


class Cable:
    """One host's way to the bridge: what `Machine` needs of a router."""

    def __init__(self, controller: RoomNamespace, room: Room, name: str) -> None:
        self._controller, self._room, self._name = controller, room, name

    def plug(self, machine: Namespace) -> None:
        """Run a new cable to the host."""
        self._controller.try_batch(f"link delete {self._name}")
        ends = ("netns", self._controller.name, "type", "veth", "peer", "name", DEVICE, "netns", machine.name)
        self._room.do("ip", "link", "add", self._name, *ends)
        self._controller.batch(f"link set {self._name} master lan\nlink set {self._name} up")

    def unplug(self) -> None:
        """Take the cable away, as power does: the network namespace of a machine that is off would still refuse connections."""
        self._controller.batch(f"link delete {self._name}")


class Host(Machine):
    """One of the fleet."""

    def __init__(self, room: Room, controller: RoomNamespace, tree: Path, number: int, key: str) -> None:
        self.name, self.address4, self._key = f"h{number}", f"{LAN}.{10 + number}", key
        self.static = f"""
address add {self.address4}/24 dev {DEVICE}
link set {DEVICE} up
route add default via {CONTROLLER}
"""
        super().__init__(room, Cable(controller, room, self.name), tree, Address.STATIC)

    def furnish(self) -> None:
        """Give it a tunnel's config, the controller's key, and nothing of failshut's but the program."""
        self.write("/etc/systemd/network/10-cable.network", f"[Match]\nName={DEVICE}\n[Link]\nUnmanaged=yes\n")
        self.write("/etc/wireguard/wg0.conf", TUNNEL)
        self.write("/root/.ssh/authorized_keys", self._key)
        # Root's user manager stays: else it is stopped ten seconds after a session, and a session that begins meanwhile waits for
        # its end, which takes a busy machine longer than ssh is patient.
        self.write("/var/lib/systemd/linger/root", "")
        self.systemctl_offline("enable", "ssh")
        self.systemctl_offline("mask", "systemd-networkd-wait-online")

    def power_off(self) -> None:
        """Power off from inside; nobody answers at its address any more."""
        super().power_off()
        self.router.unplug()

    @property
    def fingerprint(self) -> str:
        """Its rules and its files, as far as arming may touch them."""
        return self.run("sh", "-c", _FINGERPRINT).out

    def reaches_the_site(self) -> bool:
        """Whether it gets out beside the tunnel."""
        return self.run("curl", "--silent", "--max-time", "3", f"http://{SITE}/").ok


class Fleet:
    """Booted hosts and their controller; off with the block."""

    def __init__(self, tree: Path, size: int, directory: Path) -> None:
        self._tree, self._size, self.directory = tree, size, directory

    def __enter__(self) -> Self:
        self.room = Room().__enter__()
        try:
            self._begin()
        except BaseException:
            self.room.__exit__()
            raise
        return self

    def _begin(self) -> None:
        self.controller = self.room.namespace("controller")
        lines = f"link set lo up\naddress add {SITE}/32 dev lo\nlink add lan type bridge mcast_snooping 0"
        self.controller.batch(f"{lines}\naddress add {CONTROLLER}/24 dev lan\nlink set lan up")
        self.room.start(*web(), net=self.controller)
        key = self.directory / "key"
        self.room.do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
        numbers = range(1, self._size + 1)
        public = key.with_suffix(".pub").read_text()
        self.hosts = [Host(self.room, self.controller, self._tree, each, public).__enter__() for each in numbers]
        for each in self.hosts:
            each.boot()
        (self.directory / "ansible.cfg").write_text(_SETTINGS.format(directory=self.directory))
        lines = [f"{each.name} ansible_host={each.address4} ansible_user=root" for each in self.hosts]
        (self.directory / "host_vars").mkdir()
        secret = f"ansible_ssh_private_key_file={key}"
        (self.directory / "inventory").write_text("\n".join(("[failshut]", *lines, "[all:vars]", secret, "")))
        built = self.ansible("ansible-galaxy", "collection", "build", str(COLLECTION), f"--output-path={self.directory}")
        assert built.ok, built.complaint
        (archive,) = self.directory.glob("*.tar.gz")
        where = self.directory / "collections"
        installed = self.ansible("ansible-galaxy", "collection", "install", "--offline", f"-p{where}", str(archive))
        assert installed.ok, installed.complaint
        for each in self.hosts:
            assert until(lambda host=each: self._answers(host), within=30, step=0.1), each.console()

    def __exit__(self, *_: object) -> None:
        for each in self.hosts:
            # Beside what the test leaves behind, for whoever asks why it failed.
            (self.directory / f"{each.name}.journal").write_text(each.journal())
            each.__exit__()
        self.room.__exit__()

    def ansible(self, program: str, *words: str, timeout: float = 900) -> Result:
        """Run one of Ansible's programs on the controller."""
        env = ("env", f"ANSIBLE_CONFIG={self.directory}/ansible.cfg", f"ANSIBLE_HOME={self.directory}/home", "LC_ALL=C.UTF-8")
        return self.room.run(*env, "ANSIBLE_NOCOLOR=1", str(ANSIBLE / program), *words, timeout=timeout, net=self.controller)

    def describe(self, name: str, variables: dict[str, object]) -> None:
        """Give a host variables, in place of those it had."""
        (self.directory / "host_vars" / f"{name}.json").write_text(json.dumps(variables))

    def play(self, text: str, *words: str) -> Play:
        """Run a playbook on the fleet."""
        path = self.directory / "play.yml"
        path.write_text(text)
        return Play(self.ansible("ansible-playbook", *words, str(path)))

    def _answers(self, host: Host) -> bool:
        words = ("-i", str(self.directory / "key"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no")
        known = ("-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5")
        return self.room.run("ssh", *words, *known, f"root@{host.address4}", "true", net=self.controller).ok


class Play:
    """What a run of a playbook said, and its recap: by host, how many tasks were ok, changed, unreachable, failed."""

    def __init__(self, result: Result) -> None:
        self.said = f"{result.out}\n{result.err}"
        recap = result.out.partition("PLAY RECAP")[2]
        found = re.findall(r"^(\S+)\s+: (.+)$", recap, re.MULTILINE)
        self.recap = {host: {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in found}

    def of(self, name: str) -> list[int]:
        """Return one count of every host, in the inventory's order."""
        return [self.recap[host][name] for host in sorted(self.recap)]
