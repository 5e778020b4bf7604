"""The packets of one question: a variable for every field, made when somebody asks for it, and one for everything unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import z3

from failshut.audit.approximation import Approximation
from failshut.audit.netfilter.fields import IFNAME
from failshut.audit.netfilter.words import ETHERTYPE, NFPROTO, names_match
from failshut.audit.symbolic.formula import Bool, within
from failshut.audit.symbolic.large import MOST_SPELLED_OUT, Large, large


@dataclass(slots=True)
class Space:
    """`names` are the devices that there may be: index 0 is none, and each pattern of the rules has one more that only it fits."""

    family: int
    names: tuple[str, ...]
    variables: dict[str, tuple[z3.BitVecRef, str]] = field(default_factory=dict)
    unknown: dict[str, z3.BoolRef] = field(default_factory=dict)
    approximations: dict[str, Approximation] = field(default_factory=dict)
    limits: list[z3.BoolRef] = field(default_factory=list)
    large: dict[str, Large] = field(default_factory=dict)
    # Sets that are told as they are, for large ones to be told against.
    spelled_out: dict[tuple[int, tuple[tuple[int, int], ...]], Large] = field(default_factory=dict)
    # How often something unknown was met, new or not.
    guesses: int = 0
    # How much of it is no limiter.
    doubts: int = 0

    def variable(self, name: str, width: int, kind: str = "number") -> z3.BitVecRef | int:
        """Return a field's value in the packet as it began."""
        if name == "nfproto":
            return NFPROTO.get(self.family, 0)
        if name == "ethertype" and self.family:
            return ETHERTYPE[self.family]
        if name not in self.variables:
            made = z3.BitVec(name, width)
            self.variables[name] = (made, kind)
            if kind == IFNAME:
                self.limits.append(z3.ULT(made, len(self.names)))
        return self.variables[name][0]

    def anything(self, place: str, text: str, where: str, benign: bool = False) -> z3.BoolRef:
        """Return a fresh truth value for a place that was not understood."""
        self.guesses += 1
        if place not in self.unknown:
            self.doubts += not benign
            self.unknown[place] = z3.Bool(f"? {place}")
            self.approximations[place] = Approximation(place, text, where, benign)
        return self.unknown[place]

    def in_few(self, value: z3.BitVecRef, intervals: tuple[tuple[int, int], ...]) -> Bool:
        """Return that a value lies in one of a few sorted intervals."""
        found, key = within(value, intervals), (value.get_id(), intervals)
        if isinstance(found, bool) or key in self.spelled_out or len(self.spelled_out) == MOST_SPELLED_OUT:
            return found
        self.spelled_out[key] = Large(value, intervals, found)
        self.limits += [limit for other in self.large.values() for limit in other.against(self.spelled_out[key])]
        return found

    def in_many(self, value: z3.BitVecRef, intervals: tuple[tuple[int, int], ...]) -> z3.BoolRef:
        """Return that a value lies in one of very many sorted intervals."""
        made = large(value, intervals)
        self.know((made,))
        return made.held

    def know(self, sets: Iterable[Large]) -> None:
        """Take large sets into account, with what tells them from each other."""
        for each in sets:
            if str(each.held) not in self.large:
                self.limits.append(each.bounds())
                others = (*self.large.values(), *self.spelled_out.values())
                self.limits += [limit for other in others for limit in each.against(other)]
                self.large[str(each.held)] = each

    def indices(self, pattern: str) -> list[tuple[int, int]]:
        """Return which of the devices a constant name stands for."""
        return [(index, index) for index, name in enumerate(self.names) if names_match(pattern, name)]


def device_names(patterns: frozenset[str]) -> tuple[str, ...]:
    """Return one device for every way in which these patterns can tell devices apart; the first is the name of no device."""
    plain = sorted(each for each in patterns if not each.endswith("*") and each)
    # `lo*` (iptables' `lo+`) is meant for lo, and no other device's name begins so.
    wild = [each for each in sorted(patterns) if each.endswith("*") and not each.endswith("\\*") and each != "lo*"]
    fresh = [_unlike(each[:-1], patterns) for each in wild]
    return ("", *dict.fromkeys([*plain, *fresh, _unlike("other", patterns)]))


def _unlike(prefix: str, patterns: frozenset[str]) -> str:
    """Return a name with this prefix that fits no pattern but those that the prefix itself fits."""
    longer = [each for each in patterns if each.rstrip("*").startswith(prefix) and each.rstrip("*") != prefix]
    candidates = (f"{prefix}{number}" for number in range(7, 10_000))
    return next(each for each in candidates if not any(names_match(pattern, each) for pattern in longer))
