"""The replay as its caller sees it: the audit's results in, the same results with what became of each packet out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from failshut.audit.answer.replayed import judged, to_replay
from failshut.audit.answer.result import Result
from failshut.audit.netfilter.accounts import names_in
from failshut.audit.netfilter.words import names_match
from failshut.audit.symbolic.space import device_names
from failshut.audit.world import LOOPBACK, World
from failshut.audit.world.told_apart import patterns
from failshut.drill.replay.candidate import candidates_of
from failshut.drill.replay.rules import Rules
from failshut.drill.replay.run import Replaying, replays_from
from failshut.drill.workers.process import CannotDrillError, WorkerProcess
from failshut.model.ruleset import Ruleset

_NAME = re.compile(r"[^\s/:]{1,15}")


def replay(
    results: Sequence[Result], rules: Rules, ruleset: Ruleset, world: World, progress: Callable[[int, int], None] = lambda *_: None
) -> tuple[Result, ...]:
    """Send every witness in a lab that runs the rules as they were given. Raises CannotDrillError where no lab can be built."""
    work = replaying(results, rules, ruleset, world)
    if not work.candidates:
        return tuple(results)
    process = WorkerProcess(work, real_root=True)
    try:
        replays = replays_from(process.ask("{}", lambda done: progress(done, len(work.candidates))))
        if len(replays) != len(work.candidates):
            raise CannotDrillError(f"the replay broke off: {process.complaint() or 'no answer'}")
    finally:
        process.close()
    return judged(results, replays)


def replaying(results: Sequence[Result], rules: Rules, ruleset: Ruleset, world: World) -> Replaying:
    """Return the lab that these results need: every device that the rules can tell apart, and the tunnel."""
    names = [each for each in device_names(patterns(ruleset, world)) if _NAME.fullmatch(each) and each not in (LOOPBACK, ".", "..")]
    tunnels = [each for each in names if _among(each, world.tunnels)]
    inside = [each for each in names if _among(each, world.inside) and not _among(each, world.uplinked)]
    uplinks = [each for each in names if each not in tunnels and each not in inside]
    first = [each for each in world.underlay if each in uplinks] + uplinks
    # What goes into a tunnel that carries another is captured, and that one is not the lab's own.
    tunnel = next((each for each in tunnels if not _among(each, world.transit)), "replay0")
    transit = tuple(each for each in tunnels if _among(each, world.transit))
    devices = dict.fromkeys([*first, *inside, *(each for each in tunnels if each != tunnel)])
    return Replaying(rules, candidates_of(to_replay(results)), tuple(devices), tunnel, tuple(uplinks), transit, names_in(ruleset))


def _among(name: str, wanted: Sequence[str]) -> bool:
    return any(names_match(each, name) for each in wanted)
