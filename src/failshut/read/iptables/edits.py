"""What iptables-restore does to a table's chains: the commands `-A`, `-I`, `-N`, …, each on one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from failshut.model.finding import Code
from failshut.model.iptables import built_in
from failshut.read.iptables.grammar import RefusedError, Rule, Shared
from failshut.read.iptables.names import number
from failshut.read.iptables.remarks import Remarks
from failshut.read.iptables.tree import ChainText, RuleText, TableText
from failshut.read.iptables.vocabulary import COMMANDS, TARGETS
from failshut.read.iptables.words import UnclosedQuoteError, place, split

_COUNTERS = re.compile(r"\[\d+:\d+\]")
_CHAIN = re.compile(r"-[AIR]\s+(\S+)")
_LETTERS = frozenset("ACDEFILNPRSXZ")


@dataclass(slots=True)
class Edits:
    """The lines of one table being carried out. What is refused goes to `remarks`, and a rule on it may do anything."""

    version: int
    remarks: Remarks
    shared: Shared

    def line(self, line: int, text: str, table: TableText) -> None:
        """Carry out one line."""
        try:
            self._command(line, text, table)
        except RefusedError as error:
            self._refused(error, line, text)
        except UnclosedQuoteError as error:
            self.remarks.error(Code.RULES_SYNTAX, str(error), (line, error.column, 1))
            named = _CHAIN.search(text)
            if named and (named[1] in table.chains or named[1] in built_in(table.name)):
                self.chain(named[1], 0, line, text, table).rules.append(RuleText(line, text, broken=True))

    def chain(self, name: str, at: int, line: int, text: str, table: TableText) -> ChainText:
        """Return the chain, which the kernel has or the file declared; otherwise it is a finding, once."""
        if found := table.chains.get(name):
            return found
        column, length = place(text, at)
        if name not in built_in(table.name):
            message = f"no chain {name} is declared in the table {table.name}"
            help_ = f"iptables-restore refuses the table; it needs `:{name} - [0:0]` before"
            self.remarks.error(Code.RULES_NO_TARGET, message, (line, column, length), help_)
        return table.chains.setdefault(name, ChainText(name, line, column, declared=False))

    def rule(self, line: int, text: str, words: list[str], first: int) -> RuleText | None:
        """Return the rule of `words`; None when it is meant for the other IP version."""
        rule = Rule(words, first, self.shared)
        try:
            rule.read()
        except RefusedError as error:
            self._refused(error, line, text)
            return RuleText(line, text, broken=True)
        for bang in rule.old:
            message = "a '!' behind its option: iptables 1.4.3 and later refuse it; it is read as before the option"
            self.remarks.warning(Code.RULES_UNCLEAR, message, (line, *place(text, bang)))
        if rule.version and rule.version != self.version:
            return None
        return rule.text(line, text)

    def _refused(self, error: RefusedError, line: int, text: str) -> None:
        self.remarks.error(Code.RULES_SYNTAX, str(error), (line, *place(text, error.at)), error.help)

    def _command(self, line: int, text: str, table: TableText) -> None:
        words = split(text)
        at = 0
        if words[0].startswith("["):
            if not _COUNTERS.fullmatch(words[0]):
                raise RefusedError("counters are written [packets:bytes]", 0)
            at = 1
        while at < len(words) and not _letter(words[at]):
            at += 1
        if at == len(words):
            help_ = "take the program's name away" if "tables" in words[0] else "as in `-A OUTPUT -j DROP`"
            raise RefusedError("this line says of no chain what to do with it", 0, help_)
        edit = _Edit(line, text, words, at, table, self)
        _EDITS.get(_letter(words[at]), _Edit.refused)(edit)


def _letter(word: str) -> str:
    """Return a command's letter, `-A` or `--append`; empty when the word is none."""
    if len(word) == 2 and word[0] == "-" and word[1] in _LETTERS:
        return word[1]
    return COMMANDS.get(word[2:], "") if word.startswith("--") else ""


@dataclass(slots=True)
class _Edit:
    """One command: `at` is the index of the last of its words that was taken."""

    line: int
    text: str
    words: list[str]
    at: int
    table: TableText
    edits: Edits

    def append(self) -> None:
        chain = self._chain()
        if rule := self._rule():
            chain.rules.append(rule)

    def insert(self) -> None:
        chain = self._chain()
        index = self._index(chain, self._number() or 1, len(chain.rules) + 1)
        if rule := self._rule():
            chain.rules.insert(index, rule)

    def replace(self) -> None:
        chain = self._chain()
        index = self._index(chain, self._number(), len(chain.rules))
        if rule := self._rule():
            chain.rules[index] = rule

    def delete(self) -> None:
        chain = self._chain()
        if number_ := self._number():
            del chain.rules[self._index(chain, number_, len(chain.rules))]
            return
        rule = self._rule()
        same = next((index for index, each in enumerate(chain.rules) if rule and _said(each) == _said(rule)), None)
        if same is None:
            raise RefusedError(f"the chain {chain.name} has no such rule", self.at)
        del chain.rules[same]

    def new(self) -> None:
        name = self._take("the name of a chain")
        if name in self.table.chains or name in TARGETS or name in built_in(self.table.name):
            raise RefusedError(f"there is a chain or a target {name} already", self.at)
        self.table.chains[name] = ChainText(name, self.line, place(self.text, self.at)[0], declared=True)

    def policy(self) -> None:
        chain = self._chain()
        policy = self._take("a policy")
        if chain.name not in built_in(self.table.name) or policy not in ("ACCEPT", "DROP"):
            raise RefusedError("the kernel's own chains have a policy, ACCEPT or DROP", self.at)
        chain.policy = policy

    def flush(self) -> None:
        named = [self._chain()] if self.at + 1 < len(self.words) else list(self.table.chains.values())
        for chain in named:
            chain.rules.clear()

    def remove(self) -> None:
        named = [self._chain().name] if self.at + 1 < len(self.words) else list(self.table.chains)
        for name in named:
            if name not in built_in(self.table.name):
                del self.table.chains[name]

    def nothing(self) -> None:
        """Zero the counters."""

    def refused(self) -> None:
        raise RefusedError(f"iptables-restore takes no '{self.words[self.at]}'", self.at)

    def _take(self, what: str) -> str:
        if self.at + 1 >= len(self.words):
            raise RefusedError(f"{self.words[self.at]} needs {what}", self.at)
        self.at += 1
        return self.words[self.at]

    def _chain(self) -> ChainText:
        name = self._take("a chain")
        return self.edits.chain(name, self.at, self.line, self.text, self.table)

    def _number(self) -> int:
        after = self.words[self.at + 1] if self.at + 1 < len(self.words) else ""
        found = number(after, 2**31) if after[:1].isdecimal() else None
        self.at += found is not None
        return found or 0

    def _index(self, chain: ChainText, wanted: int, largest: int) -> int:
        if not 0 < wanted <= largest:
            raise RefusedError(f"the chain {chain.name} has no rule {wanted}", self.at)
        return wanted - 1

    def _rule(self) -> RuleText | None:
        command = next(index for index, word in enumerate(self.words) if _letter(word))
        before = 1 if self.words[0].startswith("[") else 0
        if command == before:
            return self.edits.rule(self.line, self.text, self.words[self.at + 1 :], self.at + 1)
        # Options before the command: their places are off by its words, which matters to a finding's column alone.
        words = [*self.words[before:command], *self.words[self.at + 1 :]]
        return self.edits.rule(self.line, self.text, words, before)


def _said(rule: RuleText) -> tuple[str, ...]:
    return (rule.text,) if rule.broken else (*map(str, (*rule.header, *rule.matches, rule.target)), str(rule.goto))


_EDITS: dict[str, Callable[[_Edit], None]] = {
    "A": _Edit.append,
    "D": _Edit.delete,
    "F": _Edit.flush,
    "I": _Edit.insert,
    "N": _Edit.new,
    "P": _Edit.policy,
    "R": _Edit.replace,
    "X": _Edit.remove,
    "Z": _Edit.nothing,
}
