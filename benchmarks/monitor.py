"""What the monitor takes: drift until it is put back, a new device until it is held, and how much it uses while nothing happens.

python -m benchmarks.monitor
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from watched import Watched

CHANGES, DEVICES, IDLE = 100, 30, 120.0

# Waits for the device, and sends by it as fast as it can from the moment that it is up; prints how many frames the kernel took.
_RACER = """
import socket, sys, time
sock, taken, refused = None, 0, 0
print("ready", flush=True)
end = time.monotonic() + 2
while time.monotonic() < end and refused < 200:
    try:
        if sock is None:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            sock.bind((sys.argv[1], 0))
        sock.send(b"\\xff" * 6 + b"\\x02" * 6 + b"\\x88\\xb5" + b"cargo" * 20)
        taken += 1
    except OSError as error:
        refused += error.errno == 105
        if error.errno == 19:
            sock = None
print(taken)
"""


def main() -> None:
    """Measure, and print a line for each."""
    with Watched() as lab:
        lab.arm()
        lab.watch_lock(every=30)
        os.setpriority(os.PRIO_PROCESS, lab.monitor, -10)
        for child in Path(f"/proc/{lab.monitor}/task/{lab.monitor}/children").read_text().split():
            os.setpriority(os.PRIO_PROCESS, int(child), -10)
        for name, command in (
            ("nft flush ruleset", ("nft", "flush", "ruleset")),
            ("a rule more", ("nft", "insert rule inet failshut postrouting accept")),
        ):
            print(f"{name}: put back in {_drifts(lab, command)}")
        print(f"a new device: {_devices(lab)}")
        print(f"idle: {_idle(lab)}")


def _drifts(lab: Watched, command: tuple[str, ...]) -> str:
    before = len(lab.events("drift"))
    for number in range(CHANGES):
        lab.must(*command)
        lab.await_event("drift", before + number + 1)
    return _spread([float(each["fields"]["ms"]) for each in lab.events("drift")[before:]]) + " ms"


def _devices(lab: Watched) -> str:
    frames, times = [], []
    for number in range(DEVICES):
        name = f"usb{number}"
        racer = lab.start("python3", "-c", _RACER, name)
        racer.stdout.readline()
        lab.plug_in(name)
        frames.append(int(racer.stdout.readline()))
        racer.wait()
        lab.await_held(name)
        lab.must("ip", "link", "del", name)
    times = [float(each["fields"]["ms"]) for each in lab.events("device")]
    return f"known to be held after {_spread(times)} ms; frames that a sender under IP got out meanwhile: {_spread(frames)}"


def _idle(lab: Watched) -> str:
    def seconds() -> float:
        words = Path(f"/proc/{lab.monitor}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")

    def switches() -> int:
        status = Path(f"/proc/{lab.monitor}/status").read_text()
        return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)

    before, woken, began = seconds(), switches(), time.monotonic()
    time.sleep(IDLE)
    took = time.monotonic() - began
    share = (seconds() - before) / took
    return f"{share:.3%} of a core, {(switches() - woken) / took:.2f} switches a second, {lab.resident()} KiB resident with its nft"


def _spread(values: list[float]) -> str:
    values = sorted(values)
    return f"{statistics.median(values):.1f} (median), {values[int(len(values) * 0.95)]:.1f} (95 %), {values[-1]:.1f} (most)"


if __name__ == "__main__":
    main()
