"""The chains of one way as formulas: when each accepts, when it drops, when it falls through, and what it wrote by then.

All of it is relative to the chain's entry, so that a chain without anything unknown is worked out once, however often it is called.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from failshut.audit.netfilter.route import DEEPEST_CALL, DEEPEST_JUMP, Stop
from failshut.audit.symbolic.formula import Bool, Number, conj, neg
from failshut.audit.symbolic.outcome import Outcome
from failshut.audit.symbolic.space import Space
from failshut.audit.symbolic.terms import Env
from failshut.audit.symbolic.walk import Walk

# Beyond so many rules looked at (chains with something unknown are looked at once a call), a call may do anything.
MOST_VISITS = 300_000
# Beyond this, what comes next is taken for one thing that is not understood: nothing that it says would be sure.
MOST_DOUBTS = 300


@dataclass(slots=True)
class Chains:
    """The chains of one way, worked out as they are asked for. `hits` keeps when each rule matches, by table, chain and index."""

    space: Space
    memo: dict[tuple[int, str, int, bool], Outcome] = field(default_factory=dict)
    atoms: dict[Hashable, Bool] = field(default_factory=dict)
    hits: dict[tuple[str, str, int], list[Bool]] = field(default_factory=dict)
    versions: int = 0
    visits: int = 0
    depth: int = 0
    # Chains that are gone to, by their place too: also with something unknown in them they are worked out once.
    gone_to: dict[tuple[int, str, int, bool, str], Outcome] = field(default_factory=dict)

    def next_version(self, written: dict[str, Number], stage: str) -> Env:
        """Return a new environment."""
        self.versions += 1
        return Env(written, self.versions, stage)

    def outcome(self, stop: Stop, name: str, env: Env, place: str, *, goto: bool = False) -> Outcome:
        """Return what a chain does, from one call's place (which names everything unknown in it)."""
        key = (id(stop.table), name, env.version, stop.early)
        if key in self.memo:
            return self.memo[key]
        if goto and (*key, place) in self.gone_to:
            return self.gone_to[*key, place]
        deep = place.count("/") > DEEPEST_JUMP or self.depth > DEEPEST_CALL
        chain = stop.table.chain(name)
        if chain is None or deep or self.visits > MOST_VISITS:
            return self._anything(stop, place, env)
        before = self.space.guesses
        self.depth += 1
        walk = Walk(self, stop, name, env, place)
        for index, rule in enumerate(chain.rules):
            self.visits += 1
            if self.space.doubts > MOST_DOUBTS:
                walk.anything_from(index, rule)
                break
            walk.rule(index, rule)
            if walk.over:
                break
        result = walk.result()
        self.depth -= 1
        if self.space.guesses == before:
            self.memo[key] = result
        elif goto:
            self.gone_to[*key, place] = result
        return result

    def _anything(self, stop: Stop, place: str, env: Env) -> Outcome:
        where = stop.prefix + place
        text = "a call that was not followed"
        accept = self.space.anything(where + "?accept", text, place)
        drop = self.space.anything(where + "?drop", text, place)
        return Outcome(accept, conj([neg(accept), drop]), conj([neg(accept), neg(drop)]), False, env)
