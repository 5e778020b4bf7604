"""The words of one rule → `RuleText`, the way iptables' own option parser (do_parse in xshared.c) takes them.

An option belongs to the match that was loaded last and has it; `-p tcp` brings `tcp`'s options along without `-m tcp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from failshut.model.units import PROTOCOL_NAMES
from failshut.read.iptables.names import protocol_number
from failshut.read.iptables.tree import Option, Part, RuleText
from failshut.read.iptables.vocabulary import ALIASES, HEADER, IMPLIED, MATCHES, SHORT, TARGETS, Arity


class RefusedError(ValueError):
    """Something that iptables-restore refuses, or that can't be read: at which word of the line, and what to do about it."""

    def __init__(self, message: str, at: int, help: str = "") -> None:  # noqa: A002 - Finding's own word
        super().__init__(message)
        self.at, self.help = at, help


# What is remembered of a long file; what comes once is not worth it.
REMEMBERED = 2048


class Shared:
    """Options and parts that many rules have: one object for all, so that a long file stays small."""

    def __init__(self) -> None:
        self._options: dict[tuple[object, ...], Option] = {}
        self._parts: dict[tuple[object, ...], Part] = {}

    def option(self, name: str, values: tuple[str, ...], negated: bool, at: int) -> Option:
        """Return the option."""
        key = (name, values, negated, at)
        found = self._options.get(key)
        if found is None:
            if len(self._options) >= REMEMBERED:
                self._options.clear()
            found = self._options[key] = Option(name, values, negated, at)
        return found

    def part(self, name: str, options: tuple[Option, ...], at: int) -> Part:
        """Return the part; its options are shared already."""
        key = (name, tuple(map(id, options)), at)
        found = self._parts.get(key)
        if found is None:
            if len(self._parts) >= REMEMBERED:
                self._parts.clear()
            found = self._parts[key] = Part(name, options, at)
        return found


@dataclass(slots=True)
class _Loaded:
    """A match or target while its options are being read; `arity` is None when this version does not know it."""

    name: str
    at: int
    arity: Arity | None
    options: list[Option] = field(default_factory=list)


@dataclass(slots=True)
class Rule:
    """One rule's words being read; `first` is the index on the line of the first of them.

    `old` are the places where a `!` stood behind its option, as it did before iptables 1.4.3.
    """

    words: Sequence[str]
    first: int
    shared: Shared
    next: int = 0
    header: list[Option] = field(default_factory=list)
    loaded: list[_Loaded] = field(default_factory=list)
    target: _Loaded | None = None
    goto: bool = False
    version: int = 0
    old: list[int] = field(default_factory=list)

    def read(self) -> None:
        """Take all words. Raises RefusedError."""
        bang = False
        while self.next < len(self.words):
            name = self.words[self.next]
            self.next += 1
            if name == "!":
                if bang:
                    raise RefusedError("two '!' in a row", self._at)
                bang = True
                continue
            if name.startswith("--") and len(name) > 2:
                self._long(name[2:], self._at, bang=bang)
            elif name.startswith("-") and len(name) == 2:
                self._short(name[1], self._at, bang=bang)
            else:
                cause = "iptables-restore knows no comment at the end of a line" if name.startswith("#") else ""
                raise RefusedError(f"a rule has options, and {name!r} is none", self._at, cause)
            bang = False
        if bang:
            raise RefusedError("a '!' at the end of the rule negates nothing", self._at)

    def text(self, line: int, text: str) -> RuleText:
        """Return the rule that was read."""
        parts = [self.shared.part(each.name, tuple(each.options), each.at) for each in self.loaded]
        target = next((part for part, each in zip(parts, self.loaded, strict=True) if each is self.target), None)
        return RuleText(line, text, tuple(self.header), tuple(each for each in parts if each is not target), target, self.goto)

    @property
    def _at(self) -> int:
        """The place on the line of the word that was taken last."""
        return self.first + self.next - 1

    def _short(self, letter: str, at: int, *, bang: bool) -> None:
        if letter in SHORT:
            self._own_header(SHORT[letter], at, bang=bang)
            return
        if bang:
            raise RefusedError(f"'-{letter}' can't be negated", at)
        if letter == "m":
            self._load(self._value(at))
        elif letter in "jg":
            self._jump(self._value(at), at, goto=letter == "g")
        elif letter == "c":
            self._value(at)
            self._value(at)
        elif letter in "46":
            self.version = int(letter)
        elif letter not in "nvx":
            raise RefusedError(f"'-{letter}' is no option of a rule", at)

    def _long(self, name: str, at: int, *, bang: bool) -> None:
        name, equals, glued = name.partition("=")
        if equals:
            # As if it stood apart; the place on the line stays right for what follows.
            self.next -= 1
            self.words = [*self.words[: self.next], glued, *self.words[self.next + 1 :]]
        # A match's own `--proto` is not the rule's.
        if not self._owner(name):
            name = ALIASES.get(name, name)
        if owner := self._owner(name):
            self._own(owner, name, at, bang=bang)
        elif letter := _LONG_COMMANDS.get(name):
            self._short(letter, at, bang=bang)
        elif name in HEADER:
            self._own_header(name, at, bang=bang)
        elif complete := self._completed(name):
            self._long(complete, at, bang=bang)
        elif self.loaded and self.loaded[-1].arity is None:
            self._foreign(self.loaded[-1], name, at, bang=bang)
        elif implied := self._implied():
            self.loaded.append(implied)
            self._long(name, at, bang=bang)
        else:
            raise RefusedError(f"no match and no target of this rule has an option '--{name}'", at, _missing(name))

    def _owner(self, name: str) -> _Loaded | None:
        for each in reversed(self.loaded):
            if each.arity is not None and name in each.arity:
                return each
        return None

    def _completed(self, start: str) -> str:
        """Return the one option that begins so: getopt_long takes a beginning for the whole."""
        known = {name for each in self.loaded if each.arity for name in each.arity} | HEADER.keys() | _LONG_COMMANDS.keys()
        found = {ALIASES.get(name, name) for name in (*known, *ALIASES) if name.startswith(start)} & known
        return found.pop() if len(found) == 1 and len(start) > 1 else ""

    def _implied(self) -> _Loaded | None:
        protocol = next((each for each in self.header if each.name == "protocol" and not each.negated), None)
        number = protocol_number(protocol.values[0]) if protocol else None
        name = IMPLIED.get(number, "") if number is not None else ""
        if not protocol or not name or any(each.name == name for each in self.loaded):
            return None
        return _Loaded(name, protocol.at, MATCHES[name])

    def _own_header(self, name: str, at: int, *, bang: bool) -> None:
        for each in self.header:
            if each.name == name:
                raise RefusedError(f"--{name} is said twice", at, "one rule has one of each; write two rules")
        self.header.append(self._option(name, HEADER[name], at, bang=bang))

    def _own(self, owner: _Loaded, name: str, at: int, *, bang: bool) -> None:
        if owner.name != "policy":
            for each in owner.options:
                if each.name == name:
                    raise RefusedError(f"--{name} is said twice", at, "iptables takes one of each in a match; write a second `-m`")
        owner.options.append(self._option(name, (owner.arity or {})[name], at, bang=bang))

    def _foreign(self, owner: _Loaded, name: str, at: int, *, bang: bool) -> None:
        """Take an option of a match that this version does not know: its values end at the next option."""
        start = self.next
        while self.next < len(self.words) and self.words[self.next] != "!" and not self.words[self.next].startswith("-"):
            self.next += 1
        owner.options.append(Option(name, tuple(self.words[start : self.next]), bang, at))

    def _option(self, name: str, arity: int, at: int, *, bang: bool) -> Option:
        if not arity:
            return self.shared.option(name, (), bang, at)
        value = self._value(at)
        # Before iptables 1.4.3 the `!` stood behind its option. No value is a lone '!', so it can't be anything else.
        if value == "!":
            if bang:
                raise RefusedError("'!' stands before and after its option", self._at)
            self.old.append(self._at)
            bang, value = True, self._value(at)
        values = (value,) if arity == 1 else (value, *(self._value(at) for _ in range(arity - 1)))
        return self.shared.option(name, values, bang, at)

    def _value(self, at: int) -> str:
        if self.next >= len(self.words):
            raise RefusedError("a value is missing after this", at)
        self.next += 1
        return self.words[self.next - 1]

    def _load(self, name: str) -> None:
        # ICMPv6's match goes by two names.
        called = "icmp6" if name == "icmpv6" else name
        self.loaded.append(_Loaded(called, self._at, MATCHES.get(called)))

    def _jump(self, name: str, at: int, *, goto: bool) -> None:
        if self.target:
            raise RefusedError("a rule has one target, and this is the second", at)
        # What is neither known here nor a chain may be a target of its own; its options are taken as they come.
        self.target = _Loaded(name, self._at, {} if goto else TARGETS.get(name))
        self.goto = goto
        self.loaded.append(self.target)


_LONG_COMMANDS = {"match": "m", "jump": "j", "goto": "g", "set-counters": "c", "ipv4": "4", "ipv6": "6"}


def _missing(name: str) -> str:
    """Return what would bring the option along."""
    owners = [each for each, options in MATCHES.items() if name in options]
    protocols = [PROTOCOL_NAMES[number] for number, match in IMPLIED.items() if match in owners and number in PROTOCOL_NAMES]
    if protocols:
        return f"it needs `-p {protocols[0]}` before it"
    return f"it needs `-m {owners[0]}` before it" if owners else ""
