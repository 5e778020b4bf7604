"""A trace instance of the kernel's own, of chosen events: its pages as they are, and the records in one.

Pages are kept as bytes, because nearly all of what they say is never asked for. Source: Documentation/trace/ftrace.rst (instances),
Documentation/trace/ring-buffer-map.rst, include/linux/ring_buffer.h (events/header_page and header_event describe them too).
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

ROOT = Path("/sys/kernel/tracing")
_FIELD = re.compile(r"field:.*?(?P<name>\w+)(?:\[\w*\])?;\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);")
_WORD = struct.Struct("=I")
_TIME = struct.Struct("=Q")
_TYPE_BITS, _DELTA_BITS, _TIME_BITS = 5, 27, 59
# What a page's length is said in; the bits above tell of lost events.
_LENGTH_BITS = 0xFFFFF
_LARGEST = 1 << 16
# In KiB: the kernel's room for what is not read yet, of all processors, and of one at least. What does not fit is lost, the oldest
# first: a second of a flood.
_ROOM, _ROOM_OF_ONE = 32 << 10, 1 << 10


class _Kind(IntEnum):
    """enum ring_buffer_type. What is less than `PADDING` is a record's length in words; 0: that stands in the next word."""

    LONG = 0
    PADDING = 29
    TIME_EXTEND = 30
    TIME_STAMP = 31


@dataclass(frozen=True, slots=True)
class Field:
    """Where a field of a record stands, in bytes."""

    offset: int
    size: int

    def of(self, record: bytes) -> bytes:
        """Return the field as it stands there."""
        return record[self.offset : self.offset + self.size]

    def number(self, record: bytes) -> int:
        """Return it as a number without a sign."""
        return int.from_bytes(self.of(record), sys.byteorder)


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of record: its number and its fields."""

    number: int
    fields: Mapping[str, Field]


class Instance:
    """Events that are traced until it is closed. `events` are those that this kernel has, by their names."""

    def __init__(self, name: str, filters: Mapping[str, str]) -> None:
        """Trace these events (`system/event`), each with its filter. Raises OSError without a trace file system."""
        self._home = ROOT / "instances" / name
        self._pipes: list[int] = []
        self._most = 0
        self.events: dict[str, Event] = {}
        self._home.mkdir()
        try:
            # Seconds as `time.monotonic` counts them.
            (self._home / "trace_clock").write_text("mono", encoding="ascii")
            room = max(_ROOM // (os.cpu_count() or 1), _ROOM_OF_ONE)
            (self._home / "buffer_size_kb").write_text(str(room), encoding="ascii")
            # Not more than that at once: who writes faster than we read must not keep us.
            self._most = room // 4
            self._page = _fields(ROOT / "events/header_page")
            for event, wanted in filters.items():
                with contextlib.suppress(FileNotFoundError):
                    self._enable(event, wanted)
            for each in sorted(self._home.glob("per_cpu/cpu*/trace_pipe_raw")):
                self._pipes.append(os.open(each, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take it out of the kernel."""
        for each in self._pipes:
            os.close(each)
        self._pipes = []
        with contextlib.suppress(OSError):
            self._home.rmdir()

    def read(self) -> Iterator[bytes]:
        """Yield the pages that there are, each as long as what stands on it; `records` reads them."""
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                for _ in range(self._most):
                    page = os.read(pipe, _LARGEST)
                    if not page:
                        break
                    length = self._page["commit"].number(page) & _LENGTH_BITS
                    yield page[: self._page["data"].offset + length]

    def records(self, page: bytes) -> Iterator[tuple[float, bytes]]:
        """Yield the records of a page, each with its time in seconds of the clock that never jumps."""
        return _records(page, self._page["data"].offset)

    def _enable(self, event: str, wanted: str) -> None:
        home = self._home / "events" / event
        (home / "filter").write_text(wanted, encoding="ascii")
        number = re.search(r"^ID: (\d+)$", text := (home / "format").read_text(encoding="ascii"), re.MULTILINE)
        self.events[event] = Event(int(number[1]) if number else -1, _fields_in(text))
        (home / "enable").write_text("1", encoding="ascii")


def sweep(prefix: str) -> None:
    """Take out the instances named by a prefix and the number of a process that is gone."""
    for each in (ROOT / "instances").glob(f"{prefix}*"):
        if not Path(f"/proc/{each.name.removeprefix(prefix)}").exists():
            with contextlib.suppress(OSError):
                each.rmdir()


def remembered_name(thread: int) -> str:
    """Return what a traced thread was called that may be gone, "" where the kernel has forgotten it."""
    with contextlib.suppress(OSError):
        for line in (ROOT / "saved_cmdlines").read_text(encoding="utf-8", errors="replace").split("\n"):
            number, _, name = line.partition(" ")
            if number == str(thread) and name != "<...>":
                return name
    return ""


def _fields(path: Path) -> dict[str, Field]:
    return _fields_in(path.read_text(encoding="ascii"))


def _fields_in(text: str) -> dict[str, Field]:
    return {each["name"]: Field(int(each["offset"]), int(each["size"])) for each in _FIELD.finditer(text)}


def _records(page: bytes, at: int) -> Iterator[tuple[float, bytes]]:
    if len(page) < at:
        return
    now, end = _TIME.unpack_from(page)[0], len(page) - _WORD.size
    while at <= end:
        kind, delta = _head(_WORD.unpack_from(page, at)[0])
        at += _WORD.size
        is_short = _Kind.LONG < kind < _Kind.PADDING
        # Everything but a short record has a word more: its length, that word among it, or the rest of a time.
        word = 0 if is_short or at > end else _WORD.unpack_from(page, at)[0]
        match kind:
            case _Kind.TIME_EXTEND:
                now += delta + (word << _DELTA_BITS)
                at += _WORD.size
            case _Kind.TIME_STAMP:
                # Its five highest bits are the page's.
                now = now >> _TIME_BITS << _TIME_BITS | delta | word << _DELTA_BITS
                at += _WORD.size
            case _Kind.PADDING if not delta:
                # What is left of the page.
                return
            case _:
                now += delta
                start, length = (at, kind * _WORD.size) if is_short else (at + _WORD.size, max(word - _WORD.size, 0))
                at = start + length
                if kind != _Kind.PADDING:
                    yield now / 1e9, page[start:at]


def _head(word: int) -> tuple[int, int]:
    """Return an entry's kind and the time since the one before. Bit fields begin at the other end on the other kind of machine."""
    if sys.byteorder == "little":
        return word & ((1 << _TYPE_BITS) - 1), word >> _TYPE_BITS
    return word >> _DELTA_BITS, word & ((1 << _DELTA_BITS) - 1)
