"""What the monitor takes: `python -m benchmarks.monitor [drift] [devices] [blocked] [idle] [first]`, everything without a word.

drift: until a change is put back · devices: until a new device is held · blocked: what 10,000 refused packets a second cost it, and
a watch beside it · idle: how much it uses in ten minutes in which nothing happens. With `first` the monitor and its nft come before
every other program, which stands for a machine that has nothing else to do.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from failshut.drill.network.wait import until
from sandbox import FAILSHUT
from watched import Watched

CHANGES, DEVICES, IDLE = 100, 30, 600.0
RATE, LASTING = 10_000, 60
_WATCHED = "/run/watched"

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

# Sends beside the tunnel at a rate, to a thousand places; prints how many were sent and how many were refused.
_FLOOD = """
import socket, sys, time
rate, lasting = int(sys.argv[1]), int(sys.argv[2])
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
sent = refused = 0
began = time.monotonic()
while sent < rate * lasting:
    due = min(int((time.monotonic() - began) * rate), rate * lasting)
    while sent < due:
        try:
            sender.sendto(b"flood", ("198.51.100.9", 10000 + sent % 1000))
        except PermissionError:
            refused += 1
        sent += 1
    time.sleep(0.005)
print(sent, refused, time.monotonic() - began)
"""


def main(parts: list[str]) -> None:
    """Measure, and print a line for each."""
    wanted: dict[str, Callable[[Watched], str]] = {"drift": _drift, "devices": _devices, "blocked": _blocked, "idle": _idle}
    with Watched() as lab:
        lab.arm('[log]\nblocked = "nflog"')
        lab.watch_lock(every=30)
        _hurry(lab, first="first" in parts)
        for name in [each for each in wanted if each in parts] or list(wanted):
            print(f"{name}: {wanted[name](lab)}", flush=True)


def _hurry(lab: Watched, *, first: bool) -> None:
    """Give the monitor and its nft what its unit gives it, or every processor that they ask for."""
    children = Path(f"/proc/{lab.monitor}/task/{lab.monitor}/children").read_text().split()
    for process in (lab.monitor, *map(int, children)):
        for thread in (int(each.name) for each in Path(f"/proc/{process}/task").iterdir()):
            if first:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(10))
            else:
                os.setpriority(os.PRIO_PROCESS, thread, -10)


def _drift(lab: Watched) -> str:
    ways = {
        "nft flush ruleset": ("nft", "flush", "ruleset"),
        "a rule more": ("nft", "insert rule inet failshut postrouting accept"),
    }
    return "; ".join(f"{name} is put back in {_put_back(lab, command)}" for name, command in ways.items())


def _put_back(lab: Watched, command: tuple[str, ...]) -> str:
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


def _blocked(lab: Watched) -> str:
    said = []
    for watched in (False, True):
        # Into a file: a watch whose pipe is full hears nothing.
        watching = lab.start("sh", "-c", f"exec {shlex.join(FAILSHUT)} watch --json >{_WATCHED}") if watched else None
        if watching and not until(lambda: lab.read(_WATCHED), within=60):
            raise SystemExit("the watch does not begin")
        processes = {"monitor": lab.monitor, **({"watch": watching.pid} if watching else {})}
        before, counted = {name: _seconds(each) for name, each in processes.items()}, _counted(lab)
        flood = lab.start("python3", "-c", _FLOOD, str(RATE), str(LASTING))
        sent, refused, took = flood.communicate()[0].split()
        lost = int(refused) - (_counted(lab) - counted)
        used = {name: (_seconds(each) - before[name]) / float(took) for name, each in processes.items()}
        resident = f"monitor {lab.resident()} KiB resident" + (f", watch {_resident(watching.pid)} KiB" if watching else "")
        shares = ", ".join(f"{name} {share:.1%} of a core" for name, share in used.items())
        said.append(f"{sent} sent and {refused} refused in {float(took):.0f} s, {lost} not counted; {shares}; {resident}")
        if watching:
            watching.send_signal(signal.SIGINT)
            watching.communicate()
            heard = json.loads(lab.read(_WATCHED).splitlines()[-1])
            named = sum(each["packets"] for each in heard["rows"] if each["pid"] == flood.pid)
            said.append(f"of the 1,000 a second that the log hands on the watch heard {heard['total']} and named {named} rightly")
    return "; ".join(said)


def _counted(lab: Watched) -> int:
    listed = json.loads(lab.must("nft", "-j", "list", "counter", "inet", "failshut", "blocked"))["nftables"]
    return next(int(each["counter"]["packets"]) for each in listed if "counter" in each)


def _idle(lab: Watched) -> str:
    def switches() -> int:
        status = Path(f"/proc/{lab.monitor}/status").read_text()
        return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)

    before, woken, began = _seconds(lab.monitor), switches(), time.monotonic()
    time.sleep(IDLE)
    took = time.monotonic() - began
    share = (_seconds(lab.monitor) - before) / took
    return f"{share:.3%} of a core, {(switches() - woken) / took:.2f} switches a second, {lab.resident()} KiB resident with its nft"


def _seconds(process: int) -> float:
    """Return the seconds of a processor that a process and its ended children have used."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")


def _resident(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def _spread(values: list[float]) -> str:
    values = sorted(values)
    return f"{statistics.median(values):.1f} (median), {values[int(len(values) * 0.95)]:.1f} (95 %), {values[-1]:.1f} (most)"


if __name__ == "__main__":
    main(sys.argv[1:])
