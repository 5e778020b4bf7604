"""A machine to arm: private network and mount namespaces with an underlay device, an /etc of its own, and nothing to lose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

import forked

EXAMPLES = Path(__file__).parents[2] / "src/failshut/examples"
FAILSHUT = (sys.executable, "-m", "failshut")

# An overlay over /etc, so that files appear there and nowhere else.
_SET_UP = """
set -e
mount -t tmpfs none /run
mount -t sysfs none /sys
mkdir /run/etc-upper /run/etc-work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc-upper,workdir=/run/etc-work /etc
mkdir /run/lib-upper /run/lib-work
mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/lib-upper,workdir=/run/lib-work /var/lib
mkdir -p /etc/failshut /etc/wireguard
ip link set lo up
ip link add eth0 type veth peer name cable
# No link-local addresses: they come when duplicate detection ends, and would show as a difference.
ip link set eth0 addrgenmode none
ip link set cable addrgenmode none
ip address add 192.168.50.2/24 dev eth0
ip link set eth0 up
ip link set cable up
echo ready
exec sleep infinity
"""

# A machine beside it needs no more.
_HOLD = """
set -e
mount -t tmpfs none /run
ip link set lo up
{more}
echo ready
exec sleep infinity
"""

# What leaves its parent, as wireguard-go does, would keep its namespace: whatever is left in it ends with the test, however that
# comes. Holding the namespace open keeps its number from going to another.
_SWEEP = """
exec 3<"/proc/$1/ns/net"
ours=$(readlink "/proc/$1/ns/net")
# Never the tester's own.
[ -n "$ours" ] && [ "$ours" != "$(readlink /proc/self/ns/net)" ] || exit 1
echo ready
read -r _
find /proc/[0-9]*/ns/net -maxdepth 0 -printf '%l %p\\n' 2>/dev/null | while read -r space path; do
	path=${path#/proc/}
	if [ "$space" = "$ours" ]; then kill -9 "${path%%/*}"; fi
done
"""

CONFIG = """\
[Interface]
# the office's tunnel
PrivateKey = ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ=
Address = 10.99.0.2/32, fd99::2/128

[Peer]
PublicKey = ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ=
Endpoint = 203.0.113.10:51820
AllowedIPs = 0.0.0.0/0, ::/0
"""

POLICY = """\
[tunnel.wg0]
config = "/etc/wireguard/wg0.conf"

[allow.lan]
prefixes = ["192.168.50.0/24"]
"""


def held_open(script: str) -> tuple[str, ...]:
    """Return the command that makes network and mount namespaces, runs a script there, and holds them while that lasts."""
    return ("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script)


def another_machine(more: str = "") -> tuple[str, ...]:
    """Return the command that holds another machine's namespaces open; it says "ready", once the lines in `more` are done."""
    return held_open(_HOLD.format(more=more))


class Sweeper:
    """Ends every process in the network namespace of a process: when it is told to, or when the test is gone."""

    def __init__(self, process: int) -> None:
        # In a session of its own, so that a signal to the test's group does not end it before its work.
        self._shell = subprocess.Popen(
            ["sh", "-c", _SWEEP, "sh", str(process)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        if self._shell.stdout.readline() != "ready\n":
            raise RuntimeError("nothing would clean up after the test")

    def sweep(self) -> None:
        """End them now, and wait until that is done."""
        self._shell.communicate()


class Sandbox:
    """Holds the namespaces open by one process; leaving it, or the death of the test, ends them."""

    # What its programs enter besides the tester's own: the kernel's names of namespaces, and a control group.
    spaces: tuple[str, ...] = ("net", "mnt")
    cgroup = ""
    # Whether failshut's commands begin in forks. A benchmark measures the program.
    forks = False

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", *self._holder_prefix()),
                *held_open(_SET_UP),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"the sandbox could not be set up: {self._holder.stderr.read()}")
        self._sweeper = Sweeper(self._holder.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self._sweeper.sweep()
        self._holder.communicate()

    def run(self, *argv: str, stdin: str | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program inside; its output is text."""
        if self.forks and argv[: len(FAILSHUT)] == FAILSHUT and forked.can(stdin, env):
            own = Path(f"/proc/{self._holder.pid}/ns")
            return forked.run(
                argv[len(FAILSHUT) :], spaces=[str(own / each) for each in self.spaces], group=self.cgroup, stdin=stdin, env=env
            )
        return subprocess.run(self._inside(argv, env), input=stdin, capture_output=True, text=True, timeout=180, check=False)

    def must(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program inside, which must succeed; return its output."""
        done = self.run(*argv, stdin=stdin)
        if done.returncode:
            raise RuntimeError(f"{argv}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program inside and leave it running."""
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *self._inside(argv)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def failshut(self, *argv: str, stdin: str | None = None, env: dict[str, str] | None = None):
        """Run failshut inside."""
        return self.run(*FAILSHUT, *argv, stdin=stdin, env=env)

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        self.must("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, stdin=text)

    def read(self, path: str) -> str:
        """Return a file's text; empty when it is not there."""
        return self.run("cat", path).stdout

    def uninstall(self, program: str) -> None:
        """Make a program of /usr/sbin be missing."""
        hide = (
            "mkdir /run/upper /run/work && mount -t overlay overlay"
            " -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work /usr/sbin && rm /usr/sbin/"
        )
        self.must("sh", "-c", hide + program)

    def adopt_example(self) -> None:
        """Put a tunnel's config without a mark and a policy for it in their places."""
        self.write("/etc/wireguard/wg0.conf", CONFIG)
        self.write("/etc/failshut/failshut.toml", POLICY)

    def fingerprint(self) -> str:
        """Return everything that disarming must bring back: rules, files, links."""
        script = (
            "nft -s list ruleset; find /etc/failshut /etc/wireguard | sort; cat /etc/wireguard/*; "
            "ip rule; ip -6 rule; ip route show table all; "
            "ip -o link | grep -o 'group [^ ]*'; sysctl -a 2>/dev/null | grep -E '^net.ipv[46].conf'"
        )
        return self.run("sh", "-c", script).stdout

    def _holder_prefix(self) -> list[str]:
        """Return what the holder is started through, for a kind of sandbox with more namespaces."""
        return []

    def _inside(self, argv: tuple[str, ...], env: dict[str, str] | None = None) -> list[str]:
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", "env", *settings, *argv]
