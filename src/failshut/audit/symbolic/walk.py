"""One chain, rule by rule, as formulas. Rules with one verdict in a row become one disjunction; a long ruleset stays flat."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, assert_never

from failshut.audit.netfilter.fields import Load, load_of
from failshut.audit.netfilter.nat import concerns, written
from failshut.audit.netfilter.route import ROUTED_ANEW, Stop, called_place, changes_the_route, map_elements, timed_elements
from failshut.audit.netfilter.words import NotUnderstoodError, holds_sometimes, is_now_and_then, number
from failshut.audit.symbolic.formula import Bool, Number, as_bits, choose, conj, disj, neg, within
from failshut.audit.symbolic.outcome import Outcome, rule_key
from failshut.audit.symbolic.terms import Env, Scope, at_most, entry_conditions, matches, term
from failshut.model.ruleset import (
    AnySet,
    Assign,
    Duplicate,
    Family,
    Forward,
    Jump,
    Left,
    Match,
    Nat,
    Neutral,
    Notrack,
    ObjectRef,
    Queue,
    Reject,
    Rule,
    Statement,
    Synproxy,
    Threshold,
    Unknown,
    UnknownMatch,
    Update,
    Verdict,
    VerdictMap,
)
from failshut.model.same import this

if TYPE_CHECKING:
    from failshut.audit.symbolic.chains import Chains


@dataclass(slots=True)
class Walk:
    """One chain, rule by rule. `reach`: the packets that came so far, but for those that the `row` of like verdicts takes."""

    chains: Chains
    stop: Stop
    name: str
    env: Env
    place: str
    reach: Bool = True
    row: list[Bool] = field(default_factory=list)
    row_verdict: Verdict = Verdict.CONTINUE
    ends: dict[Verdict, list[Bool]] = field(default_factory=dict)
    copied: list[Bool] = field(default_factory=list)
    # What was written for those that went to another chain: for them alone, they don't come back to this one.
    left: list[tuple[Bool, Env]] = field(default_factory=list)
    over: bool = False

    def rule(self, index: int, rule: Rule) -> None:
        """Take one rule into account."""
        condition: Bool = True
        for position, statement in enumerate(rule.statements):
            place = f"{self.stop.prefix}{self.place}:{index}.{position}"
            before = condition
            condition, ended = self._statement(statement, condition, place, rule)
            if ended or condition is False:
                if ended:
                    key = rule_key(self.stop.table, self.name, index)
                    self.chains.hits.setdefault(key, []).append(before)
                return

    def anything_from(self, index: int, rule: Rule) -> None:
        """Take a rule and all that come after it for one that may do anything."""
        text = "there is more that is not understood than can be computed with"
        self._unknown(text, True, f"{self.stop.prefix}{self.place}:{index}", rule)

    def result(self) -> Outcome:
        """Return the chain's outcome, after its last rule."""
        self._close()
        back = [*self.ends.get(Verdict.RETURN, []), self.reach]
        accept, drop = (disj(self.ends.get(each, [])) for each in (Verdict.ACCEPT, Verdict.DROP))
        for gone, env in self.left:
            self.env = self._merge(gone, env)
        return Outcome(accept, drop, disj(back), disj(self.copied), self.env)

    def _close(self) -> None:
        """Let the packets of the row go."""
        if self.row:
            taken = disj(self.row)
            self.ends.setdefault(self.row_verdict, []).append(conj([self.reach, taken]))
            self.reach = conj([self.reach, neg(taken)])
            self.row = []
        self.over = self.reach is False

    def _take(self, verdict: Verdict, condition: Bool) -> None:
        if self.row_verdict is not verdict:
            self._close()
        self.row_verdict = verdict
        self.row.append(condition)
        if condition is True:
            self._close()

    def _scope(self) -> Scope:
        return Scope(self.chains.space, self.env, self.stop.table, self.stop.early)

    def _statement(self, statement: Statement, condition: Bool, place: str, rule: Rule) -> tuple[Bool, bool]:  # noqa: C901, PLR0911, PLR0912 - one line a kind
        """Return the rule's condition so far, and whether a verdict ended the rule."""
        match statement:
            case Match():
                return conj([condition, self._match(statement, place, rule)]), False
            case UnknownMatch(text):
                return conj([condition, self._guess(place, text, rule, benign=holds_sometimes(text))]), False
            case Update(key=key):
                taken = self._guess(place, "update", rule, benign=True)
                return conj([condition, self._is_there(key), taken]), False
            case Threshold():
                return conj([condition, self._guess(place, type(statement).__name__.lower(), rule, benign=True)]), False
            case ObjectRef(kind, is_threshold=True):
                return conj([condition, self._guess(place, kind, rule, benign=True)]), False
            case Verdict.CONTINUE:
                return condition, True
            case Verdict():
                self._take(statement, condition)
                return condition, True
            case Reject():
                self._take(Verdict.DROP, condition)
                return condition, True
            case Jump():
                self._jump(statement, condition, place)
                return condition, True
            case VerdictMap():
                return self._verdict_map(statement, condition, place, rule)
            case Assign():
                return self._assign(statement, condition, place, rule), False
            case Nat():
                condition = self._nat(statement, condition, place, rule)
                self._take(Verdict.ACCEPT, condition)
                return condition, True
            case Notrack():
                if self.stop.early:
                    self._write("ct state", 32, condition, 64)
                return condition, False
            case Duplicate() | Forward():
                return self._copy(statement, condition, place, rule)
            case Queue() | Synproxy():
                accept = self._guess(place + "?accept", type(statement).__name__.lower(), rule)
                self._take(Verdict.ACCEPT, conj([condition, accept]))
                self._take(Verdict.DROP, condition)
                return condition, True
            case Unknown(text):
                return self._unknown(text, condition, place, rule), False
            case Neutral():
                return condition, False
            case _:
                assert_never(statement)

    def _is_there(self, key: Left) -> Bool:
        """Return whether the packet has what a set is changed by; without it the rule ends."""
        try:
            return term(self._scope(), key).present
        except NotUnderstoodError:
            return True

    def _guess(self, place: str, text: str, rule: Rule, benign: bool = False) -> Bool:
        where = str(rule.origin) if rule.origin else place
        return self.chains.space.anything(place, text, where, benign)

    def _match(self, match: Match, place: str, rule: Rule) -> Bool:
        right = this(match.right.elements) if isinstance(match.right, AnySet) else match.right
        key = (match.left, match.op, right, id(self.stop.table), self.env.version, self.stop.early)
        if key not in self.chains.atoms:
            try:
                self.chains.atoms[key] = matches(self._scope(), match)
            except NotUnderstoodError as reason:
                # An element that time takes away is there for a while: whatever passes by it does pass.
                timed = timed_elements(self.stop.table, match) is not None or is_now_and_then(match.left)
                return conj([self._guess(place, str(reason), rule, benign=timed), at_most(self._scope(), match)])
        return self.chains.atoms[key]

    def _write(self, name: str, width: int, condition: Bool, new: Number) -> None:
        """Write a field for the packets that reach this statement."""
        self._close()
        # What a rule before connection tracking leaves alone is what tracking makes of it, not what an early rule sees.
        old = replace(self._scope(), early=False).read(name, width)
        value = choose(conj([self.reach, condition]), new, old, width)
        if value is not old:
            self.env = self.chains.next_version({**self.env.written, name: value}, self.env.stage)

    def _jump(self, jump: Jump, condition: Bool, place: str) -> None:
        self._close()
        here = conj([self.reach, condition])
        if here is False:
            return
        inner = place.removeprefix(self.stop.prefix)
        where = called_place(inner, jump.target, goto=jump.goto)
        called = self.chains.outcome(self.stop, jump.target, self.env, where, goto=jump.goto)
        self.ends.setdefault(Verdict.ACCEPT, []).append(conj([here, called.accept]))
        self.ends.setdefault(Verdict.DROP, []).append(conj([here, called.drop]))
        self.copied.append(conj([here, called.copied]))
        if called.env.version != self.env.version and not jump.goto:
            self.env = self._merge(here, called.env)
        if jump.goto:
            self.left += [(here, called.env)] if called.env.version != self.env.version else []
            self.ends.setdefault(Verdict.RETURN, []).append(conj([here, called.fall]))
            self.reach = conj([self.reach, neg(condition)])
        else:
            self.reach = conj([self.reach, disj([neg(condition), called.fall])])
        self.over = self.reach is False

    def _merge(self, here: Bool, other: Env) -> Env:
        """Return the environment after a call that only some packets made."""
        written = dict(self.env.written)
        for name, new in other.written.items():
            if new is not self.env.written.get(name):
                width = new.size() if not isinstance(new, int) else 128 if name.startswith("ip6 ") else 32
                old = self._old(name, width)
                written[name] = choose(here, new, old, width if isinstance(old, int) else old.size())
        return self.chains.next_version(written, self.env.stage)

    def _old(self, name: str, width: int) -> Number:
        return self.env.written[name] if name in self.env.written else self.chains.space.variable(name, width)

    def _verdict_map(self, statement: VerdictMap, condition: Bool, place: str, rule: Rule) -> tuple[Bool, bool]:
        elements = map_elements(self.stop.table, statement.map)
        scope = self._scope()
        if elements is None:
            return self._unknown("the map's elements are not known", condition, place, rule), True
        try:
            key = term(scope, statement.key)
            conditions = entry_conditions(scope, key, elements)
        except NotUnderstoodError as reason:
            return self._unknown(str(reason), condition, place, rule), True
        for found, (_, verdict) in zip(conditions, elements, strict=True):
            here = conj([condition, key.present, found])
            if isinstance(verdict, Jump):
                self._jump(verdict, here, place)
            elif isinstance(verdict, Verdict) and verdict is not Verdict.CONTINUE:
                self._take(verdict, here)
        return condition, True

    def _assign(self, assign: Assign, condition: Bool, place: str, rule: Rule) -> Bool:
        try:
            load = load_of(assign.target)
        except NotUnderstoodError:
            # Nothing that the audit computes with: a later match on it is not understood either.
            self._routed_anew(assign, "", condition)
            return condition
        if self.stop.early and load.name.startswith("ct "):
            return condition
        scope = self._scope()
        condition = conj([condition, scope.has(load.requires)])
        try:
            present, new = self._value(scope, assign, load)
        except NotUnderstoodError as reason:
            self._guess(place, f"what is written: {reason}", rule)
            present, new = True, self.chains.space.variable(f"written {place}", load.width)
        condition = conj([condition, present])
        self._write(load.name, load.width, condition, new)
        self._routed_anew(assign, load.name, condition)
        return condition

    def _routed_anew(self, assign: Assign, name: str, condition: Bool) -> None:
        if changes_the_route(assign.target, name, self.chains.space.family):
            self._write(ROUTED_ANEW, 1, condition, 1)

    def _value(self, scope: Scope, assign: Assign, load: Load) -> tuple[Bool, Number]:
        value = assign.value
        if isinstance(value, int) or type(value).__module__.endswith("ruleset.expressions"):
            found = term(scope, value)
            if isinstance(found.value, tuple):
                raise NotUnderstoodError("a concatenation can't be written")
            full = (1 << load.width) - 1
            return found.present, found.value & full if isinstance(found.value, int) else as_bits(found.value, load.width)
        return True, number(value, load.kind)  # type: ignore[arg-type] # what is no number is refused there

    def _nat(self, nat: Nat, condition: Bool, place: str, rule: Rule) -> Bool:
        """Translate; return for which packets. What the rule does not say is one field of the packet, or not known at all."""
        condition = conj([condition, self._scope().has((("nfproto", concerns(nat)),))])
        for each in written(nat):
            free = self.chains.space.variable(f"nat {each.field}", each.width)
            new = choose(within(free, [(each.low, each.high)]), free, each.low, each.width)
            if not each.told:
                new = choose(self._guess(f"{place} {each.field}", "what it is translated to", rule), new, each.low, each.width)
            self._write(each.field, each.width, condition, new)
        return condition

    def _copy(self, statement: Statement, condition: Bool, place: str, rule: Rule) -> tuple[Bool, bool]:
        self._close()
        passes: Bool = True
        if self.stop.table.family is not Family.NETDEV:
            # It is sent as a packet of its own: untracked, and past every chain of the output (nf_dup_ipv4).
            passes = self._guess(f"{place}?copy", "what the rules say of the copy", rule)
        self.copied.append(conj([self.reach, condition, passes]))
        if isinstance(statement, Forward):
            self._take(Verdict.DROP, condition)
            return condition, True
        return condition, False

    def _unknown(self, text: str, condition: Bool, place: str, rule: Rule) -> Bool:
        """Let a statement that was not understood write the marks, and accept, drop, end the rule or go on."""
        accept, drop, goes_on = (self._guess(place + each, text, rule) for each in ("?accept", "?drop", ""))
        for name in ("mark", "ct mark"):
            self._write(name, 32, condition, self.chains.space.variable(f"{name} at {place}", 32))
        self._take(Verdict.ACCEPT, conj([condition, accept]))
        self._take(Verdict.DROP, conj([condition, drop]))
        return conj([condition, neg(accept), neg(drop), goes_on])
