"""The bench that every test stands on: the capture, the senders, and the judgement of what left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from failshut.host.network.links import underlay_now
from failshut.model.packet import Captured, Packet
from failshut.model.policy import Policy
from failshut.verify.capture import Capture, Seen
from failshut.verify.ground import Ground, explain_here, joined, survey
from failshut.verify.interrupt import Interrupt
from failshut.verify.outcome import Outcome, Tried, Verdict
from failshut.verify.probes import Probe, controls, whose
from failshut.verify.sending import Sending

Progress = Callable[[Outcome], None]
SHOWN_LEAKS = 20
# In seconds: how long our own control frame may take from the socket to the tap.
_CONTROL_WITHIN = 5.0


@dataclass(slots=True)
class Test:
    """One test as it runs. `wrong` says why it proves nothing; `more` is what was tried beside the bench's own senders."""

    name: str
    title: str
    began: float = field(default_factory=time.monotonic)
    wrong: list[str] = field(default_factory=list)
    more: list[Tried] = field(default_factory=list)


class Bench:
    """Watches and sends until it is left; `test` frames one test, and no packet lies between two tests."""

    def __init__(self, policy: Policy, ground: Ground, programs: Sequence[Probe], interrupt: Interrupt, progress: Progress) -> None:
        """Tap every underlay device. Raises PermissionError without the privilege, OSError for a device that is gone."""
        self.ground, self.interrupt = ground, interrupt
        self._policy, self._progress = policy, progress
        services = frozenset((each.protocol.number, int(each.port)) for each in policy.inbound)
        self.capture = Capture([each.name for each in ground.devices], self._explain, services)
        self.sending = Sending(programs)
        self._controls = controls(ground.devices)
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Self:
        self.capture.start()
        self.sending.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.sending.__exit__()
        self.capture.stop()
        for each in self._controls:
            each.close()

    @contextmanager
    def test(self, name: str, title: str, probes: Sequence[Probe] = ()) -> Iterator[Test]:
        """Run a test: its probes send until the block ends; then everything that left meanwhile is judged and reported."""
        self.interrupt.check()
        test = Test(name, title)
        self.sending.turn(probes)
        yield test
        self._control(test)
        tried = (*self.sending.turn(()), *test.more)
        outcome = self._judged(test, self.capture.turn(), tuple(each for each in tried if each.impossible != "not its turn"))
        self.outcomes.append(outcome)
        self._progress(outcome)

    def conclude(self, name: str, title: str) -> None:
        """Judge what has left since the last test, without asking anything of it."""
        self.sending.turn(())
        outcome = self._judged(Test(name, title), self.capture.turn(), ())
        self.outcomes.append(outcome)
        self._progress(outcome)

    def wait(self, condition: Callable[[], bool], *, within: float) -> bool:
        """Wait until a condition holds, at most `within` seconds; return whether it held. Raises when the user wants to stop."""
        end = time.monotonic() + within
        while not condition():
            if time.monotonic() > end:
                return False
            self.interrupt.pause(0.05)
        return True

    def _explain(self, packet: Packet, device: str) -> str | None:
        return explain_here(packet, device, self._policy, self.ground)

    def _control(self, test: Test) -> None:
        """Send the control frames and wait until the taps have seen them: a capture that sees nothing proves nothing."""
        self.sending.now(self._controls)
        names = [each.name for each in self.ground.devices if each.carrying and each.ethernet]
        self.wait(lambda: all(map(self.capture.control_seen, names)), within=_CONTROL_WITHIN)
        test.wrong += [f"the capture did not see its own frame on {name}" for name in names if not self.capture.control_seen(name)]

    def _judged(self, test: Test, seen: Seen, tried: tuple[Tried, ...]) -> Outcome:
        self.ground = joined(self.ground, survey(self._policy))
        again = partial(explain_here, policy=self._policy, ground=self.ground, connections=self.capture.connections)
        allowed, leaks = Counter(seen.allowed), list(seen.excess)
        for frame in seen.unexplained:
            name = again(frame.packet, frame.device)
            allowed.update([name] if name else [])
            leaks += [] if name else [frame]
        leaked = len(leaks) + seen.uncounted
        wrong = [*test.wrong, *self._unwatched()]
        if lost := self.capture.lost():
            wrong.append(f"the capture lost {lost} frames")
        if tried and not any(each.sent or each.refused for each in tried):
            wrong.append("no probe could be sent")
        verdict = Verdict.LEAK if leaked else Verdict.VOID if wrong else Verdict.OK
        seconds = time.monotonic() - test.began
        return Outcome(test.name, test.title, verdict, "; ".join(wrong), seconds, dict(allowed), leaked, self._lines(leaks), tried)

    def _lines(self, leaks: Sequence[Captured]) -> tuple[str, ...]:
        """Return leaked packets, alike ones in one line by the first of them."""
        alike: dict[tuple[str, str, str], list[Captured]] = {}
        for frame in leaks:
            packet, ours = frame.packet, whose(frame.packet, self.sending.everything)
            kind = f"{packet.ethertype} {packet.source} {packet.target} {packet.protocol} {packet.target_port}"
            alike.setdefault((frame.device, ours, kind), []).append(frame)
        lines = []
        for (_, ours, _), frames in list(alike.items())[:SHOWN_LEAKS]:
            more = f", and {len(frames) - 1} more like it" if len(frames) > 1 else ""
            lines.append(f"{frames[0]} ({f'our probe: {ours}' if ours else 'not sent by verify'}){more}")
        return tuple([*lines, f"… and {len(alike) - SHOWN_LEAKS} other kinds"] if len(alike) > SHOWN_LEAKS else lines)

    def _unwatched(self) -> list[str]:
        watched = self.capture.devices
        tunnels = [str(each.interface) for each in self._policy.tunnels]
        now = underlay_now(tunnels, self._policy.forward.bridges)
        return [f"{each} came meanwhile and was not watched" for each in now if each not in watched]
