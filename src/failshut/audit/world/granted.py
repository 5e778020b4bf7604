"""What the lock's own sets hold: what somebody with root opened by name, for a time; and programs, by their control group.

An opening is allowed while the kernel lists it, and for no longer than such an opening may last: an element that never ends, or
ends too late, opens what no policy allows. A control group is the policy's, or it is none that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from failshut.audit.netfilter.route import ANYTHING
from failshut.audit.predicate import Is, Predicate, Some, among, both, either, equals
from failshut.model.lock import LOCK_NAME
from failshut.model.policy import PORTAL_SLICE, Policy, slice_path
from failshut.model.ruleset import CatchAll, Element, Left, Match, Meta, NamedSet, Range, Ruleset, SetRef, Socket, Table, Tuple
from failshut.model.timed import (
    CANDIDATES,
    LONGEST,
    LONGEST_SIGN_IN,
    ON_PROBATION,
    OUTSIDE_PROGRAMS,
    PORTAL_DNS,
    PORTAL_PROGRAMS,
    PROBE,
    PROBED,
    gate_name,
    programs_name,
)

# Where hybrid machines mount cgroup v2, below the place at which nft looks.
_HYBRID = "unified/"
_GROUPS = "cgroupsv2"
_LIMITS = {CANDIDATES: ON_PROBATION, PROBE: PROBED, PORTAL_PROGRAMS: LONGEST_SIGN_IN, PORTAL_DNS: LONGEST_SIGN_IN}


@dataclass(frozen=True, slots=True)
class Opened:
    """An element of one of the lock's sets. `timeout` and `left` are in seconds; 0 and None for what never ends.

    `longest` is how long such an element may last.
    """

    set: str
    element: Element
    timeout: int
    left: int | None
    longest: int

    @property
    def is_bounded(self) -> bool:
        """Whether it ends, and not too late."""
        return 0 < self.timeout <= self.longest

    def __str__(self) -> str:
        return f"{self.set}: {element_text(self.element)}, {self._ending()}"

    def _ending(self) -> str:
        if not self.timeout:
            return "a control group that is gone" if isinstance(self.element, int) else "which never ends"
        left = f"{self.left if self.left is not None else self.timeout} s left"
        return left if self.is_bounded else f"{left}, of {self.timeout}: more than the {self.longest} that it may last"


def element_text(element: Element) -> str:
    """Return an element of a set as nft lists it."""
    match element:
        case Tuple(parts):
            return " . ".join(map(element_text, parts))
        case Range(low, high):
            return f"{low}-{high}"
        case CatchAll():
            return "*"
        case _:
            return str(element)


@dataclass(frozen=True, slots=True)
class Granted:
    """The lock's sets as they are listed; None: whatever may be in them, the same for the rules and for the policy."""

    sets: Mapping[str, NamedSet] | None = None

    def holds(self, left: Left, name: str) -> Predicate:
        """Return that a value is open for a time by this set."""
        if self.sets is None:
            return Is(Match(left, SetRef(name)))
        return among(left, tuple(each.element for each in self._opened(name) if each.is_bounded))

    def gate(self, allowance: str, *, on_demand: bool) -> Predicate:
        """Return that an allowance is open: one on demand while its gate is."""
        return self.holds(Meta("nfproto"), gate_name(allowance)) if on_demand else both()

    def programs(self, name: str, path: str) -> Predicate:
        """Return that the packet's socket was made in a control group, or below it."""
        # A group that is gone is listed by its number: what was made in it may live on.
        gone = tuple(each for each in self._elements(name) if isinstance(each, int))
        return _in_group(path, gone)

    def sign_in(self) -> Predicate:
        """Return that the packet's socket was made in the portal's slice, while a sign-in is open."""
        path = slice_path(PORTAL_SLICE)
        if self.sets is None:
            return _in_group(path, ())
        open_now = tuple(each.element for each in self._opened(PORTAL_PROGRAMS) if each.is_bounded)
        gone = tuple(each for each in open_now if isinstance(each, int))
        return _in_group(path, gone) if gone or set(open_now) & {path, _HYBRID + path} else Some()

    def _elements(self, name: str) -> tuple[Element, ...]:
        found = self.sets.get(name) if self.sets is not None else None
        return found.elements or () if found else ()

    def _opened(self, name: str) -> Iterator[Opened]:
        found = self.sets.get(name) if self.sets is not None else None
        if found:
            yield from _opened(found)


def _in_group(path: str, gone: tuple[int, ...]) -> Predicate:
    level = len(path.split("/"))
    return either(among(Socket("cgroupv2", level), (path, *gone)), equals(Socket("cgroupv2", level), _HYBRID + path))


def granted(ruleset: Ruleset) -> Granted:
    """Return what the lock's sets hold in a ruleset."""
    return Granted({each.name: each for table in ruleset.tables if table.name == LOCK_NAME for each in table.sets})


def opened(ruleset: Ruleset) -> tuple[Opened, ...]:
    """Return everything that is open for a time, or would be if it ended; and control groups that are gone."""
    found = granted(ruleset).sets or {}
    return tuple(each for name in sorted(found) for each in _opened(found[name]) if _is_worth_a_word(found[name], each))


def _is_worth_a_word(named: NamedSet, each: Opened) -> bool:
    return named.name not in ("timed", "logging") and (_is_timed(named) or isinstance(each.element, int))


def _opened(named: NamedSet) -> Iterator[Opened]:
    ends = {each.element: each for each in named.ends}
    longest = _LIMITS.get(named.name.rstrip("46"), LONGEST)
    for each in named.elements or ():
        end = ends.get(each)
        yield Opened(named.name, each, end.timeout if end else 0, end.left if end else None, longest)


def _is_timed(named: NamedSet) -> bool:
    return "timeout" in named.flags and "dynamic" not in named.flags


def as_granted(ruleset: Ruleset) -> Ruleset:
    """Return our lock with its timed sets as they are listed: no packet adds to them, and time only takes away."""
    return _with_sets(ruleset, _listed)


def _listed(named: NamedSet) -> NamedSet:
    return replace(named, flags=named.flags - {"timeout"}, timeout=0) if _is_timed(named) else named


def as_anything(ruleset: Ruleset, policy: Policy | None = None) -> Ruleset:
    """Return our lock with whatever may be in its sets: of programs the policy's control groups, of all else anything.

    Without a policy a set of programs holds anything, too.
    """
    groups = _groups(policy) if policy else {}

    def filled(named: NamedSet) -> NamedSet:
        if named.name in groups and named.key == (_GROUPS,):
            return replace(named, flags=frozenset(), elements=(groups[named.name],))
        is_open = _is_timed(named) or (named.key == (_GROUPS,) and policy is None)
        return replace(named, flags=frozenset({ANYTHING}), elements=None) if is_open else named

    return _with_sets(ruleset, filled)


def _groups(policy: Policy) -> dict[str, str]:
    pins = {programs_name(each.name): each.cgroup for each in policy.outbound if each.cgroup}
    outside = {OUTSIDE_PROGRAMS: policy.outside.cgroup} if policy.outside else {}
    return {PORTAL_PROGRAMS: slice_path(PORTAL_SLICE), **pins, **outside}


def _with_sets(ruleset: Ruleset, change: Callable[[NamedSet], NamedSet]) -> Ruleset:
    def changed(table: Table) -> Table:
        return replace(table, sets=tuple(map(change, table.sets))) if table.name == LOCK_NAME else table

    return Ruleset(tuple(map(changed, ruleset.tables)))
