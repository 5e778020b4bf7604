"""A machine's life in chapters: each is judged and written down, and one that goes wrong does not end the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from boot import noise
from boot.wire import Report
from failshut.host.run import Result
from vm.living import UNLOCKED, Event, judged, kinds, use
from vm.machine import Machine
from vm.measured import Measured
from vm.ways import Way

_log = logging.getLogger(__name__)
COLD_BOOT = "cold boot"


class Chronicle:
    """What `measured` is filled by."""

    def __init__(self, measured: Measured, subtests: pytest.Subtests) -> None:
        self._measured, self._subtests = measured, subtests

    def begin(self, machine: Machine) -> None:
        """Write down which kernel this is."""
        self._measured.kernel = machine.run("uname", "-r").out.strip()

    @contextmanager
    def held(self, machine: Machine, name: str) -> Iterator[None]:
        """Judge what left during the block: nothing may have leaked."""
        with self._subtests.test(f"{name}, locked"):
            try:
                with machine.wire.phase(name), _told(name):
                    yield
            finally:
                report = judged(machine)
            self._measured.chapter(name).note_lock(report.frames, len(report.leaks))
            assert not report.leaks, report

    @contextmanager
    def leaks(self, machine: Machine, name: str, expected: frozenset[str]) -> Iterator[None]:
        """Without a lock: at least these kinds of the noise must be seen to leak during the block."""
        with self._subtests.test(f"{name}, without a lock"):
            try:
                with machine.wire.phase(name), _told(name):
                    yield
            finally:
                report = judged(machine)
            self.note_control(name, report, name)
            assert kinds(report, name) >= expected, report

    def note_control(self, name: str, report: Report, phase: str) -> None:
        """Write down what leaked without a lock."""
        counted = report.by_phase.get(phase, {})
        known = {kind: count for kind, count in counted.items() if not kind.startswith("other")}
        others = sum(counted.values()) - sum(known.values())
        words = [f"{kind} {count:,}" for kind, count in known.items()] + ([f"others {others:,}"] if others else [])
        self._measured.chapter(name).control = ", ".join(words) or "nothing"

    def start_is_seen_to_leak(self, machine: Machine, name: str, *more: str) -> None:
        """Judge the start without a lock: every kind of the noise must have leaked, and what `more` names."""
        self.begin(machine)
        control = judged(machine)
        self.note_control(name, control, UNLOCKED)
        assert kinds(control, UNLOCKED) >= {*noise.TARGETS, *more}, control

    def every_event_is_seen_to_leak(self, machine: Machine, events: tuple[Event, ...]) -> None:
        """Have each event befall the machine without a lock: it leaks, by the kinds that it must."""
        for event in events:
            with self.leaks(machine, event.name, event.leaks):
                event.befall(machine)
                use(machine)

    def every_event_is_held(self, machine: Machine, events: tuple[Event, ...]) -> None:
        """Have each event befall the locked machine."""
        for event in events:
            with self.held(machine, event.name):
                event.befall(machine)
                use(machine)

    def every_way_is_held(self, machine: Machine, ways: tuple[Way, ...]) -> None:
        """Try each way out of the locked machine."""
        for number, way in enumerate(ways):
            with self.held(machine, way.title):
                went, seen = self._gone(machine, way, number)
                assert not seen, went

    def every_way_is_seen_to_leak(self, machine: Machine, ways: tuple[Way, ...]) -> None:
        """Try each way out without a lock."""
        for number, way in enumerate(ways):
            with self._subtests.test(f"{way.title}, without a lock"), _told(way.title):
                went, seen = self._gone(machine, way, number)
                self._measured.chapter(way.title).control = f"{seen:,}"
                assert seen, went
        judged(machine)

    def what_no_hook_sees_is_seen_to_leak(self, machine: Machine, ways: tuple[Way, ...]) -> None:
        """Try each way that docs/known-limits.md names: where one no longer leaks, the page is wrong."""
        for number, way in enumerate(ways):
            with self._subtests.test(f"{way.title}, locked"), _told(way.title):
                went, seen = self._gone(machine, way, number)
                self._measured.chapter(way.title).note_lock(judged(machine).frames, seen, "a known limit")
                assert seen, went

    @staticmethod
    def _gone(machine: Machine, way: Way, number: int) -> tuple[Result, int]:
        """Try a way out; return what its programs said, and how many of its frames left."""
        before = machine.wire.holding(way.mark)
        went = way.go(machine, number)
        return went, machine.wire.holding(way.mark) - before


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say at once what goes wrong: the end of the test may be an hour away."""
    try:
        yield
    except Exception as error:
        _log.warning("%s: %s", name, error)
        raise
