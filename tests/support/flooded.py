"""A watched machine with its guard, whose firewall is flushed again and again while programs send beside the tunnel."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable

from failshut.drill.network.wait import until
from watched import Watched

LOADER = "/etc/failshut/load"
# Where the flood goes, by the way it is sent; nothing else goes there.
TARGETS = {"udp": "198.51.100.11", "packet": "198.51.100.15"}
# Datagrams beside the tunnel, and frames below IP, some thousand a second, until there is a line of input; prints how many.
FLOOD = """
import select, socket, struct, sys, time
plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
plain.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
below = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
below.bind(("eth0", 0))
udp = struct.pack("!HHHH", 7007, 7007, 13, 0) + b"flood"
ends = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.15")
head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(udp), 0, 0, 64, 17)
total = sum(struct.unpack("!9H", head + ends))
total = (total >> 16) + (total & 0xFFFF)
frame = b"\\xff" * 6 + b"\\x02" * 6 + b"\\x08\\x00" + head + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ends + udp
tried = 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.001)[0]:
    for _ in range(10):
        tried += 2
        try:
            plain.sendto(b"flood", ("198.51.100.11", 7007))
        except OSError:
            pass
        try:
            below.send(frame)
        except OSError:
            pass
print(tried)
"""
# Until the lock is whole again, so that the next one has something to take away.
BACK = """
until nft list chain inet failshut postrouting 2>/dev/null | grep -q shut && nft list table netdev failshut >/dev/null 2>&1
do sleep 0.002; done
"""


class Flooded(Watched):
    """Begin with `arm`, then `guard` and `watch_lock`."""

    _guard: subprocess.Popen[str] | None = None

    def __exit__(self, *exits: object) -> None:
        self.unguard()
        super().__exit__(*exits)

    def guard(self) -> None:
        """Start the guard as its unit does."""
        self._guard = self.start("unshare", "--pid", "--fork", "--kill-child", "/bin/sh", LOADER, "guard")
        assert until(lambda: self.run("nft", "list", "table", "inet", "failshut-guard").returncode == 0, within=90, step=0.05)

    def unguard(self) -> None:
        """End the guard."""
        if self._guard:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def flush(self, once: str, times: int, *, waits: bool = True, amid: Callable[[], None] | None = None) -> None:
        """Flush so many times, each when the lock is back; `amid` is done when half of it is."""
        script = f"for number in $(seq {times}); do {once}; {BACK if waits else ''}\n[ $number = {times // 2} ] && echo half; done"
        flushing = self.start("sh", "-c", f"exec 2>/dev/null\n{script}; echo done")
        if amid and flushing.stdout.readline() == "half\n":
            amid()
        assert flushing.communicate()[0].endswith("done\n")

    def kill_monitor(self) -> None:
        """Kill the monitor as a program out of its mind would be; nobody starts it again."""
        self._monitor.send_signal(signal.SIGKILL)
        self._monitor.wait()
        self._monitor = None

    def under_flood(self, work) -> tuple[int, Counter[str]]:
        """Do some work while it is flooded; return how often something tried to leave, and what left, by how it was sent."""
        self.watch("cable")
        flood = self.start("python3", "-IS", "-c", FLOOD)
        assert flood.stdout.readline() == "ready\n"
        try:
            work()
        finally:
            tried = flood.communicate("stop\n")[0]
        ways = {target: way for way, target in TARGETS.items()}
        return int(tried), Counter(ways[each.target] for each in self.seen() if each.target in ways)
