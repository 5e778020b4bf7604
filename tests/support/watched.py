"""A connected, armed machine with the monitor running in it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from connected import Connected
from failshut.drill.network.wait import until
from sandbox import FAILSHUT

RUN = "/run/failshut"

# Sends frames under IP, which nothing but the layer there holds; prints how many the kernel took.
_FRAMES = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind((sys.argv[1], 0))
taken = 0
for _ in range(100):
    try:
        sock.send(b"\\xff" * 6 + b"\\x02" * 6 + b"\\x88\\xb5" + b"cargo" * 20)
        taken += 1
    except OSError:
        pass
print(taken)
"""


class Watched(Connected):
    """The monitor is started by `watch_lock`, and ends with the block at the latest."""

    _monitor: subprocess.Popen[str] | None = None

    def __exit__(self, *exits: object) -> None:
        self.leave_unwatched()
        super().__exit__(*exits)

    def arm(self, *lines: str) -> None:
        """Bring the tunnel up and put the lock on, with these lines at the policy's end."""
        self.adopt_tunnel("\n".join(['[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"', *lines, ""]))
        self.must(*FAILSHUT, "arm")

    def watch_lock(self, every: float = 1) -> None:
        """Start the monitor, and wait until it has found the lock armed."""
        self.start_monitor(every)
        self.await_status(lock="armed")

    def start_monitor(self, every: float = 1) -> None:
        """Start the monitor."""
        self.run("rm", "-f", f"{RUN}/status.json")
        argv = ["setpriv", "--pdeathsig", "KILL", *self._inside((*FAILSHUT, "monitor", "--every", str(every)))]
        self._monitor = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def leave_unwatched(self, *, kill: bool = False) -> str:
        """End the monitor; return what it said on standard error, where its journal is in a sandbox."""
        if self._monitor is None:
            return ""
        (self._monitor.kill if kill else self._monitor.terminate)()
        said = self._monitor.communicate(timeout=20)[1]
        self._monitor = None
        return said

    def tidy(self) -> None:
        """Take away what a test plugged in, and have the lock as it was armed."""
        self.leave_unwatched()
        for device in self.devices() - {"lo", "eth0", "wg0", "sit0"}:
            self.run("ip", "link", "del", device)
        self.run("rm", "-rf", RUN)
        self.run("nft", "flush", "ruleset")
        # Arming anew takes seconds, and is needed only after a disarming or another policy.
        self.run("sh", "/etc/failshut/load")
        if self.failshut("plan", "--exit-code").returncode:
            self.must(*FAILSHUT, "arm")

    def devices(self) -> set[str]:
        """Return the devices that are there."""
        return {each["ifname"] for each in json.loads(self.must("ip", "-j", "link"))}

    @property
    def monitor(self) -> int:
        """The monitor's process."""
        return self._monitor.pid

    def state(self) -> dict:
        """Return what the status file says; nothing while there is none."""
        try:
            return json.loads(self.read(f"{RUN}/status.json") or "{}")
        except ValueError:
            return {}

    def await_status(self, *, within: float = 90, **wanted: object) -> dict:
        """Wait until the status file says so."""
        if not until(lambda: wanted.items() <= self.state().items(), within=within, step=0.05):
            raise AssertionError(f"{wanted} is not in {self.state()}")
        return self.state()

    def await_tunnel(self, state: str, reason: str = "", *, within: float = 90) -> None:
        """Wait until the tunnel is in this state for this reason."""

        def is_so() -> bool:
            tunnel = self.state().get("tunnels", {}).get("wg0", {})
            return (tunnel.get("state"), tunnel.get("reason")) == (state, reason)

        assert until(is_so, within=within, step=0.2), self.state()

    def await_held(self, device: str) -> None:
        """Wait until the monitor says that a device has the layer under IP."""
        assert until(lambda: device in self.state().get("under_ip", ()), within=90, step=0.02), self.state()

    def events(self, kind: str = "") -> list[dict]:
        """Return the recorded events, of one kind or all."""
        found = [json.loads(line) for line in self.read(f"{RUN}/events.jsonl").splitlines()]
        return [each for each in found if kind in ("", each["kind"])]

    def await_event(self, kind: str, number: int = 1) -> dict:
        """Wait until so many events of a kind are recorded; return the last."""
        assert until(lambda: len(self.events(kind)) >= number, within=90, step=0.05), self.events()
        return self.events(kind)[-1]

    def frames_out(self, device: str) -> int:
        """Send a hundred frames under IP by a device; return how many left."""
        return int(self.must("python3", "-c", _FRAMES, device))

    def plug_in(self, device: str) -> None:
        """Have a device come, as an adapter does: up, with the far end away."""
        self.must("ip", "link", "add", device, "type", "veth", "peer", "name", f"far-{device}", "netns", str(self._server.pid))
        self.server("ip", "link", "set", f"far-{device}", "up")
        self.must("ip", "link", "set", device, "up")

    def chain(self) -> str:
        """Return the choke point's rules."""
        return self.run("nft", "-s", "list", "chain", "inet", "failshut", "postrouting").stdout

    def resident(self) -> int:
        """Return the monitor's resident memory and its children's, in KiB."""
        children = Path(f"/proc/{self.monitor}/task/{self.monitor}/children").read_text().split()
        return sum(_resident(int(each)) for each in (self.monitor, *children))


def _resident(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
