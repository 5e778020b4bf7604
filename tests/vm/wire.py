"""What left the machine's cards, as qemu itself wrote it down, cut into the phases of a test and judged by the policy."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from boot.wire import BETWEEN, Report
from failshut.drill.judgement.judge import Case, judge
from failshut.model.packet import Captured
from failshut.read.frame import decode

_log = logging.getLogger(__name__)
# pcap(5), as qemu writes it: the file's head, a frame's head.
_HEAD, _FRAME = struct.Struct("<IHHiIII"), struct.Struct("<IIII")
_MAGIC, _ETHERNET, LONGEST = 0xA1B2C3D4, 1, 65536


class Wire:
    """The captures of every card, each in a file that qemu appends to."""

    def __init__(self) -> None:
        self._files: dict[str, list[Path]] = {}
        self._phases: list[tuple[str, dict[Path, int], dict[Path, int]]] = []
        self._heard_out: dict[Path, int] = {}

    def plug(self, device: str, file: Path) -> None:
        """Know of one more capture: what leaves by `device`."""
        self._files.setdefault(device, []).append(file)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Give what leaves during the block a name. By the files' lengths: the machine's clock goes back with its snapshots."""
        began = self._lengths()
        try:
            yield
        finally:
            self._phases.append((name, began, self._lengths()))

    def judged(self, case: Case) -> Report:
        """Judge what left since the last time this was asked."""
        frames = [(self._phase_of(file, end), each) for file, end, each in self._fresh()]
        by_moment = sorted(frames, key=lambda each: each[1].at)
        judgement = judge((each for _, each in by_moment), case)
        leaked = {id(each) for each in judgement.leaks}
        report = Report(tuple((phase, each) for phase, each in by_moment if id(each) in leaked), judgement.allowed)
        _log.info("leaks by phase, of %d frames\n%s", len(frames), report.table)
        self._phases.clear()
        return report

    def seen(self, device: str) -> int:
        """How many frames left by a device so far."""
        return sum(len(read(file)) for file in self._files[device])

    def holding(self, mark: bytes) -> int:
        """How many frames that ever left hold these bytes."""
        return sum(mark in frame.content for files in self._files.values() for file in files for frame in read(file))

    def _fresh(self) -> Iterator[tuple[Path, int, Captured]]:
        for device, files in self._files.items():
            for file in files:
                after = self._heard_out.get(file, 0)
                at, before = 0.0, None
                for frame in read(file):
                    if frame.end <= after:
                        continue
                    # A snapshot's clock starts over; what comes after it came later all the same.
                    at += max(0.0, frame.at - before) if before is not None else 0.0
                    before = frame.at
                    self._heard_out[file] = frame.end
                    yield file, frame.end, Captured(at, device, decode(frame.content))

    def _phase_of(self, file: Path, end: int) -> str:
        return next((name for name, began, ended in self._phases if began.get(file, 0) < end <= ended.get(file, 0)), BETWEEN)

    def _lengths(self) -> dict[Path, int]:
        return {file: file.stat().st_size for files in self._files.values() for file in files if file.exists()}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a file: its moment in seconds, its bytes, and where in the file it ends."""

    at: float
    content: bytes
    end: int


def read(file: Path) -> list[Frame]:
    """Read a capture file. Raises ValueError for one that is none, or in which a frame was cut short."""
    data = file.read_bytes() if file.exists() else b""
    if not data:
        return []
    magic, _, _, _, _, _, link = _HEAD.unpack_from(data)
    if (magic, link) != (_MAGIC, _ETHERNET):
        raise ValueError(f"{file} is no capture of Ethernet frames")
    frames, at = [], _HEAD.size
    while at + _FRAME.size <= len(data):
        seconds, micro, held, length = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        if held != length:
            raise ValueError(f"{file} holds {held} bytes of a frame of {length}")
        if at + held > len(data):
            # Being written this moment.
            break
        frames.append(Frame(seconds + micro / 1e6, data[at : at + held], at + held))
        at += held
    return frames
