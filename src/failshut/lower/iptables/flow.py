"""nft's verdicts as ways through iptables' chains.

Accept ends an nft chain and asks nothing more of it, while other tables still judge. iptables has no such verdict: its ACCEPT skips
every rule of the user's that stands behind ours. So our chains are entered by a jump from the kernel's chain and never left by
anything but DROP, REJECT or the way back: *allowed* is RETURN, and to say that at any depth each chain is gone to (`-g`), never
jumped to. What comes after a chain, to which nft would return, is then a chain of its own that it ends in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from failshut.lower.iptables.places import Place
from failshut.lower.iptables.single import Matches, excluded, excluding, ways
from failshut.model.iptables import LONGEST_NAME
from failshut.model.ruleset import (
    AnyMap,
    Assign,
    Binary,
    BitOp,
    Chain,
    Ct,
    Jump,
    Limit,
    Match,
    Meta,
    Nat,
    Payload,
    Reject,
    Rule,
    Statement,
    Table,
    Verdict,
    VerdictMap,
)

_ANSWERS = {4: ("icmp", "admin-prohibited"), 6: ("icmpv6", "admin-prohibited")}
_IP = {4: "ip", 6: "ip6"}
# So many rules for one are looked through for every packet that comes by; in two steps, few.
_WIDE = 8
End = Verdict | Jump | Reject | Nat | None


@dataclass(frozen=True, slots=True)
class _Line:
    """A rule in parts: what it asks, how often it may hold, what it writes, and where it goes.

    A fork is a rule that goes to one of several chains; nothing else is said then.
    """

    matches: Matches
    end: End
    comment: str
    limits: tuple[Limit, ...] = ()
    actions: tuple[Statement, ...] = ()
    fork: tuple[tuple[Match, Jump], ...] = ()

    @property
    def always(self) -> bool:
        """Whether every packet goes this way."""
        return not (self.matches or self.limits or self.fork)

    @property
    def excludes(self) -> tuple[Match, ...]:
        """The matches that are "none of these", or "not this" beside another question to the same field."""
        asked = [each.left for each in self.matches]
        return tuple(each for each in self.matches if excluded(each, alone=asked.count(each.left) == 1))


@dataclass(slots=True)
class Flow:
    """The chains of one hook, for one family."""

    lock: Table
    version: int
    place: Place
    chains: dict[str, list[Rule]] = field(default_factory=dict)
    known: dict[tuple[str, str], str] = field(default_factory=dict)

    def compiled(self, source: Chain) -> tuple[Chain, ...]:
        """Return our chains for nft's chain `source`, the first of them first; none when it refuses and changes nothing."""
        lines = self._lines(source.rules)
        if all(each.end in (None, Verdict.ACCEPT, Verdict.RETURN) and not each.actions and not each.fork for each in lines):
            return ()
        self._chain(self.place.own, lines, "")
        return tuple(Chain(name, tuple(rules)) for name, rules in self.chains.items())

    def _chain(self, name: str, lines: Sequence[_Line], after: str) -> None:
        """Write a chain. `after` is the chain to go to at its end; empty: the packet is allowed."""
        rules = self.chains[name] = []
        self._body(rules, lines, after)

    def _body(self, rules: list[Rule], lines: Sequence[_Line], after: str) -> None:
        for index, line in enumerate(lines):
            if self._leads_on(line):
                self._lead_on(rules, line, self._rest(lines[index + 1 :], after), after)
                return
            self._write(rules, line, self._end(line.end, after))
            if line.always and line.end is not None and not _comes_back(line.end):
                return
        self._go(rules, after)

    def _leads_on(self, line: _Line) -> bool:
        """Whether a rule needs what comes after it as a chain of its own."""
        if _comes_back(line.end) and isinstance(line.end, Jump) and not self._is_plain(line.end.target):
            return True
        # It can't come back by RETURN, which allows, from where it is told apart or counted.
        apart = line.excludes and line.end not in (None, Verdict.DROP)
        return bool(line.fork or apart or (line.limits and len(self._ways(line)) > 1) or self._is_wide(line))

    def _is_wide(self, line: _Line) -> bool:
        """Whether a rule would be so many that it is better asked in two steps."""
        return isinstance(line.end, Verdict) and not line.actions and len(self._ways(line)) > _WIDE

    def _in_two_steps(self, line: _Line) -> tuple[Matches, Matches]:
        """Return the matches of a wide rule: those to ask first, and the last of which there are several, to ask then."""
        several = [each for each in line.matches if each not in line.excludes and len(ways((each,), self.version)) > 1]
        if not self._is_wide(line) or len(several) < 2:
            return line.matches, ()
        last = several[-1]
        return tuple(each for each in line.matches if each != last), (last,)

    def _lead_on(self, rules: list[Rule], line: _Line, behind: str, after: str) -> None:
        """Write such a rule; what is `behind` it is a chain already."""
        for match, jump in line.fork:
            self._all(rules, ways((match,), self.version), (), (self._inside(jump, behind),), line.comment)
        inner = self._lines(self._source(line.end.target)) if isinstance(line.end, Jump) and _comes_back(line.end) else []
        if inner and line.always and not line.actions:
            self._body(rules, inner, behind)
            return
        if inner:
            self._write(rules, line, self._inside(line.end, behind))
        elif not line.fork:
            own = self._made(line.comment)
            first, then = self._in_two_steps(line)
            self._unless(self.chains[own], line, Jump(behind, goto=True) if behind else Verdict.RETURN)
            for way in ways(then, self.version):
                self._append(self.chains[own], way, line.limits, self._end(line.end, after), line.comment)
            if then or line.limits:
                self._go(self.chains[own], behind)
            self._all(rules, self._ways(replace(line, matches=first)), (), (Jump(own, goto=True),), line.comment)
        self._go(rules, behind)

    def _inside(self, jump: End, behind: str) -> Jump:
        if not isinstance(jump, Jump):
            raise TypeError(f"{jump} leads to no chain")
        return Jump(self._sub(jump.target, self._lines(self._source(jump.target)), behind), goto=True)

    def _rest(self, lines: Sequence[_Line], after: str) -> str:
        """Return the chain with what comes after a rule."""
        if not lines:
            return after
        name = self._made(lines[0].comment)
        self._body(self.chains[name], lines, after)
        return name

    def _sub(self, target: str, lines: Sequence[_Line], after: str) -> str:
        """Return our chain for nft's chain `target` when it is left for `after`."""
        key = (target, after)
        if key not in self.known:
            self.known[key] = name = self._made(target)
            self._body(self.chains[name], lines, after)
        return self.known[key]

    def _made(self, label: str) -> str:
        """Make an empty chain, named by our first one and a word, and return its name."""
        whole = f"{self.place.own}-{label.partition(':')[0] or 'rest'}"
        name, number = whole[:LONGEST_NAME], 2
        while name in self.chains:
            name = f"{whole[: LONGEST_NAME - len(str(number)) - 1]}-{number}"
            number += 1
        self.chains[name] = []
        return name

    def _write(self, rules: list[Rule], line: _Line, end: End) -> None:
        """Append the rules that `line` is in iptables. "None of these" is a chain that is jumped to, and comes back."""
        doing = tuple(each for each in (*map(self._action, line.actions), end) if each is not None)
        if not doing:
            return
        if line.excludes:
            own = self._made(line.comment)
            self._unless(self.chains[own], line, Verdict.RETURN)
            self._all(self.chains[own], [()], line.limits, doing, line.comment)
            doing = (Jump(own),)
            self._all(rules, self._ways(line), (), doing, line.comment)
            return
        self._all(rules, self._ways(line), line.limits, doing, line.comment)

    def _unless(self, rules: list[Rule], line: _Line, end: End) -> None:
        """Append what leads away from the rule each of those that it is not for."""
        for match in line.excludes:
            for way in (way for each in excluding(match) for way in ways((each,), self.version)):
                self._append(rules, way, (), end, line.comment)

    def _ways(self, line: _Line) -> list[Matches]:
        return ways((each for each in line.matches if each not in line.excludes), self.version)

    def _all(
        self, rules: list[Rule], found: list[Matches], limits: tuple[Limit, ...], doing: tuple[Statement, ...], comment: str
    ) -> None:
        if len(doing) > 1 and (limits or found != [()]):
            # More than one thing to do: in a chain of its own.
            own = self._made(comment)
            self._all(self.chains[own], [()], (), doing, comment)
            last = doing[-1]
            doing = (Jump(own, goto=isinstance(last, Verdict | Reject) or (isinstance(last, Jump) and last.goto)),)
        for way in found:
            for each in doing:
                self._append(rules, way, limits, each, comment)

    def _append(self, rules: list[Rule], way: Matches, limits: tuple[Limit, ...], done: End | Statement, comment: str) -> None:
        made = Rule((*way, *limits, *(() if done is None else (done,))), comment)
        if not rules or rules[-1] != made:
            rules.append(made)

    def _go(self, rules: list[Rule], after: str) -> None:
        if after:
            rules.append(Rule((Jump(after, goto=True),)))

    def _end(self, end: End, after: str) -> End:  # noqa: PLR0911 - one line a kind is the clearest table there is
        """Return a verdict as iptables says it, in a chain that is left for `after`."""
        match end:
            case Verdict.ACCEPT:
                return Verdict.RETURN
            case Verdict.RETURN:
                return Jump(after, goto=True) if after else Verdict.RETURN
            case Jump(target, goto=True):
                lines = self._lines(self._source(target))
                # A chain that says no more than one verdict is that.
                if len(lines) == 1 and lines[0].always and not lines[0].actions and not isinstance(lines[0].end, Jump):
                    return self._end(lines[0].end, after)
                if not any(map(self._action, (each for line in lines for each in line.actions))) and _only_accepts(lines):
                    return Verdict.RETURN
                return Jump(self._sub(target, lines, after), goto=True)
            case Jump(target):
                lines = self._lines(self._source(target))
                return Jump(self._sub(target, lines, "")) if lines else None
            case Reject("icmpx"):
                return Reject(*_ANSWERS[self.version])
            case _:
                return end

    def _action(self, action: Statement) -> Statement | None:
        """Return what is written, as iptables says it; None where the packet's bytes are out of reach, and another place's duty."""
        if not isinstance(action, Assign):
            return action
        match action.target, action.value:
            case Payload(), _ if not self.place.writes:
                return None
            case Ct("mark"), Binary(BitOp.OR, Binary(BitOp.AND, Ct("mark"), int(kept)), int(value)):
                return Assign(action.target, Binary(BitOp.XOR, Binary(BitOp.AND, action.target, kept & ~value), value))
            case _:
                return action

    def _is_plain(self, target: str) -> bool:
        """Whether a chain always comes back: it can be jumped to."""
        ends = (each.end for each in self._lines(self._source(target)))
        return all(each is None or (isinstance(each, Jump) and not each.goto and self._is_plain(each.target)) for each in ends)

    def _source(self, name: str) -> tuple[Rule, ...]:
        found = self.lock.chain(name)
        return found.rules if found else ()

    def _lines(self, rules: Iterable[Rule]) -> list[_Line]:
        """Return the rules that concern this family, in parts."""
        return [each for each in map(_in_parts, rules) if self._concerns(each)]

    def _concerns(self, line: _Line) -> bool:
        written = {each.target.protocol for each in line.actions if isinstance(each, Assign) and isinstance(each.target, Payload)}
        if written - {_IP[self.version]}:
            return False
        if line.fork:
            return bool(ways((line.fork[0][0],), self.version))
        return bool(self._ways(line))


def _comes_back(end: End) -> bool:
    return isinstance(end, Jump) and not end.goto


def _only_accepts(lines: Sequence[_Line]) -> bool:
    return all(each.always and each.end is Verdict.ACCEPT for each in lines)


def _in_parts(rule: Rule) -> _Line:
    matches = tuple(each for each in rule.statements if isinstance(each, Match))
    limits = tuple(each for each in rule.statements if isinstance(each, Limit))
    others = tuple(each for each in rule.statements if not isinstance(each, Match | Limit))
    last = others[-1] if others else None
    if isinstance(last, VerdictMap):
        return _Line(matches, None, rule.comment, fork=tuple(_forked(last)))
    if isinstance(last, Verdict | Jump | Reject | Nat):
        return _Line(matches, last, rule.comment, limits, others[:-1])
    return _Line(matches, None, rule.comment, limits, others)


def _forked(fork: VerdictMap) -> Iterator[tuple[Match, Jump]]:
    """Yield where a mark leads, or the addresses that begin with the same bits. Raises TypeError for any other map."""
    for element, data in fork.map.elements if isinstance(fork.map, AnyMap) else ():
        match fork.key, element, data:
            case Meta("mark"), int(mark), Jump():
                yield Match(fork.key, mark), replace(data, goto=False)
            case Binary(BitOp.AND, Payload() as field_, int(mask)), IPv4Address() | IPv6Address(), Jump():
                yield Match(field_, ip_network((element, mask.bit_count()))), replace(data, goto=False)
            case _:
                raise TypeError(f"a map that leads from {element} to {data} can't be said")
