"""The tables as they stand → the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain as joined
from math import prod
from typing import TypeVar

from failshut.model.finding import Code
from failshut.model.iptables import base, built_in
from failshut.model.ruleset import Assign, Chain, Engine, Family, Jump, Opaque, Origin, Rule, Table, Unknown, UnknownMatch, Verdict
from failshut.read.iptables.grammar import REMEMBERED
from failshut.read.iptables.graph import Edge, circles, reached_from
from failshut.read.iptables.ipset import IpSets
from failshut.read.iptables.meaning import fields, header, targets
from failshut.read.iptables.meaning.table import MATCH_READERS, ONLY_IN_PLACES, ONLY_IN_VERSION, TARGET_READERS
from failshut.read.iptables.meaning.targets import VERDICTS
from failshut.read.iptables.meaning.ways import ALWAYS, Seen, UnsureError, Ways, WrongError, both, unsure
from failshut.read.iptables.remarks import Remarks
from failshut.read.iptables.tree import ChainText, Option, Part, RuleText, TableText
from failshut.read.iptables.words import place

# `-s a,b,… -d c,d,…` makes a rule of each pair.
_MOST_WAYS = 1024
_DESTINATION = frozenset({"PREROUTING", "OUTPUT"})
_NO_DEVICE = {"in-interface": ("OUTPUT", "POSTROUTING"), "out-interface": ("INPUT", "PREROUTING")}
_T = TypeVar("_T", Option, Part)


def table(text: TableText, family: Family, engine: Engine, remarks: Remarks, sets: IpSets) -> Table:
    """Return the table; what is wrong in it goes to `remarks`."""
    lowering = _Lowering(text, 4 if family is Family.IP else 6, remarks, sets, reached_from(text), circles(text))
    chains = tuple(lowering.chain(each) for each in text.chains.values())
    return Table(family, text.name, chains, engine=engine)


def unlisted(name: str, line: int, remarks: Remarks) -> tuple[Chain, ...]:
    """Return chains of which only the table is known: they stand beside its own, at the same places, and may do anything.

    They can't accept what another chain drops, but drop, mark and translate. Their priority may be another than what is said here.
    """
    origin = Origin(remarks.file, line, remarks.lines[line - 1])
    rules = (Rule((Unknown(origin.text),), origin=origin),)
    return tuple(Chain(f"{each} (not listed)", rules, base(name, each, Verdict.ACCEPT), origin=origin) for each in built_in(name))


@dataclass(slots=True)
class _Lowering:
    """The table whose rules are being read."""

    table: TableText
    version: int
    remarks: Remarks
    sets: IpSets
    reached: dict[str, tuple[str, ...]]
    circles: set[Edge]
    # Rules of one file are much alike, and share their options and parts: what was read once is taken again.
    known: dict[tuple[int, Seen], tuple[Ways, str]] = field(default_factory=dict)

    def chain(self, text: ChainText) -> Chain:
        origin = Origin(self.remarks.file, text.line, self.remarks.lines[text.line - 1].strip())
        rules = tuple(each for index, rule in enumerate(text.rules) for each in self._rules(rule, text, index))
        if text.name not in built_in(self.table.name):
            return Chain(text.name, rules, origin=origin)
        if text.rules and not text.policy:
            message = f"no policy of {self.table.name} {text.name} is said: ACCEPT is assumed, which is what the kernel begins with"
            at = (text.line, text.column, len(text.name))
            self.remarks.warning(Code.RULES_UNCLEAR, message, at, f"write `:{text.name} ACCEPT` or `:{text.name} DROP`")
        policy = Verdict.DROP if text.policy == "DROP" else Verdict.ACCEPT
        return Chain(text.name, rules, base(self.table.name, text.name, policy), origin=origin)

    def _rules(self, text: RuleText, chain: ChainText, index: int) -> tuple[Rule, ...]:
        said = text.text.strip()
        origin = Origin(self.remarks.file, text.line, said)
        circle = (chain.name, index) in self.circles
        if circle:
            self._circle(text, chain)
        if circle or text.broken:
            return (Rule((Unknown(said),), origin=origin),)
        destination = not self.reached[chain.name] or not _DESTINATION.isdisjoint(self.reached[chain.name])
        seen = Seen(self.version, header.protocol(text.header), destination, self.sets)
        parts = [self._header(each, seen, text, chain) for each in text.header]
        parts += [self._match(each, seen, text, chain) for each in text.matches]
        parts.append(self._target(text, seen, chain))
        many = prod(map(len, parts))
        comment = " ".join(each.options[0].values[0] for each in text.matches if each.name == "comment" and each.options)
        if many == 1:
            return (Rule(tuple(joined.from_iterable(each[0] for each in parts)), comment, origin),)
        if not many:
            self._warn(Code.RULES_UNCLEAR, "no packet ever matches this rule", text, -1)
        if many > _MOST_WAYS:
            parts = [unsure(said), parts[-1]]
            self.remarks.approximated(said, f"it makes {many} rules; any packet may match", (text.line, *place(text.text, -1)))
        return tuple(Rule(way, comment, origin) for way in both(*parts))

    def _header(self, given: Option, seen: Seen, text: RuleText, chain: ChainText) -> Ways:
        if chain.name in _NO_DEVICE.get(given.name, ()):
            message = f"a packet in {chain.name} has no --{given.name} yet, or no more: iptables refuses it"
            self._error(Code.RULES_SYNTAX, message, text, given.at)
        return self._read(given, header.read, seen, text)

    def _match(self, part: Part, seen: Seen, text: RuleText, chain: ChainText) -> Ways:
        self._placed(part, f"match {part.name}", text, chain)
        return self._read(part, MATCH_READERS.get(part.name, fields.not_known), seen, text)

    def _read(self, said: _T, reader: Callable[[_T, Seen], Ways], seen: Seen, text: RuleText, *, target: bool = False) -> Ways:
        """Return what `said` means, and list it when that is not known."""
        found = self.known.get((id(said), seen))
        if not found:
            unknown: Ways = ((Unknown(f"-j {said}"),),) if target else unsure(f"-m {said}" if isinstance(said, Part) else str(said))
            try:
                ways, reason = reader(said, seen), ""
            except WrongError as error:
                self._error(error.code, str(error), text, error.option.at, error.help)
                return unknown
            except UnsureError as error:
                ways, reason = unknown, str(error)
            if len(self.known) >= REMEMBERED:
                self.known.clear()
            found = self.known[id(said), seen] = ways, _assumed(ways, reason)
        ways, assumed = found
        if assumed:
            self.remarks.approximated(str(said), assumed, (text.line, *place(text.text, said.at)))
        return ways

    def _target(self, text: RuleText, seen: Seen, chain: ChainText) -> Ways:
        target = text.target
        if not target:
            return ALWAYS
        name = target.name
        if name in built_in(self.table.name):
            self._error(Code.RULES_SYNTAX, f"{name} is the kernel's own chain, and no rule can go there", text, target.at)
        elif name in self.table.chains:
            return ((Jump(name, text.goto),),)
        elif text.goto or (name not in TARGET_READERS and not target.options):
            message = f"there is no chain {name} in the table {self.table.name}" + (
                "" if text.goto else ", and no target of that name"
            )
            help_ = f"iptables-restore refuses the table; it needs `:{name} - [0:0]`"
            self._error(Code.RULES_NO_TARGET, message, text, target.at, help_)
        elif name in VERDICTS:
            return ((VERDICTS[name],),)
        else:
            self._placed(target, f"target {name}", text, chain)
            return self._read(target, TARGET_READERS.get(name, targets.not_known), seen, text, target=True)
        return ((Unknown(f"-j {target}"),),)

    def _placed(self, part: Part, name: str, text: RuleText, chain: ChainText) -> None:
        if ONLY_IN_VERSION.get(name, self.version) != self.version:
            message = f"the {name} is IPv{10 - self.version}'s, among rules for IPv{self.version}"
            self._error(Code.RULES_OTHER_FAMILY, message, text, part.at)
        places = ONLY_IN_PLACES.get(name)
        if not places:
            return
        if places.tables and self.table.name not in places.tables:
            message = f"the kernel takes the {name} in {' and '.join(places.tables)} only, and this is {self.table.name}"
            self._error(Code.RULES_SYNTAX, message, text, part.at)
        elif places.chains and (wrong := [each for each in self.reached[chain.name] if each not in places.chains]):
            message = f"the kernel refuses the {name} where {wrong[0]} leads"
            self._error(Code.RULES_SYNTAX, message, text, part.at, f"it takes it in {' and '.join(places.chains)}")

    def _circle(self, text: RuleText, chain: ChainText) -> None:
        target = text.target.name if text.target else chain.name
        message, at = f"a circle of chains: {chain.name} leads back to {target}", text.target.at if text.target else -1
        if self.reached[chain.name]:
            self._error(Code.RULES_LOOP, message, text, at, "the kernel refuses the table")
        else:
            self._warn(Code.RULES_LOOP, message, text, at, "no packet comes here")

    def _error(self, code: Code, message: str, text: RuleText, at: int, help: str = "") -> None:  # noqa: A002
        self.remarks.error(code, message, (text.line, *place(text.text, at)), help)

    def _warn(self, code: Code, message: str, text: RuleText, at: int, help: str = "") -> None:  # noqa: A002
        self.remarks.warning(code, message, (text.line, *place(text.text, at)), help)


def _assumed(ways: Ways, reason: str) -> str:
    """Return what is assumed of ways that are not known to their end; empty when they are."""
    statements = [each for way in ways for each in way]
    if any(isinstance(each, Unknown) for each in statements):
        return reason or "it may do anything, and give any verdict"
    if any(isinstance(each, UnknownMatch) for each in statements):
        return reason or "it may match or not"
    opaque = any(isinstance(each, Assign) and isinstance(each.value, Opaque) for each in statements)
    return "it may write any value" if opaque else ""
