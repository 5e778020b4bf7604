"""What an iptables-save file says, before anything is made of it: tables, chains, rules as they stand."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Option:
    """`! --name value …`, by its canonical name without dashes; `at` is the index of its word on the line."""

    name: str
    values: tuple[str, ...]
    negated: bool
    at: int = field(compare=False)

    def __str__(self) -> str:
        return " ".join(("! " * self.negated + f"--{self.name}", *self.values))


@dataclass(frozen=True, slots=True)
class Part:
    """A match (`-m name …`) or a target (`-j name …`) with its options."""

    name: str
    options: tuple[Option, ...]
    at: int = field(compare=False)

    def __str__(self) -> str:
        return " ".join((self.name, *map(str, self.options)))


@dataclass(frozen=True, slots=True)
class RuleText:
    """One rule. `header` are the options that iptables itself has: `-s -d -i -o -p -f`.

    `broken` says that the line was not understood to its end: it may do anything.
    """

    line: int
    text: str
    header: tuple[Option, ...] = ()
    matches: tuple[Part, ...] = ()
    target: Part | None = None
    goto: bool = False
    broken: bool = False


@dataclass(slots=True)
class ChainText:
    """A chain as it is being read; `policy` is empty for a chain of the user's, or when none was said."""

    name: str
    line: int
    column: int
    declared: bool
    policy: str = ""
    rules: list[RuleText] = field(default_factory=list)


@dataclass(slots=True)
class TableText:
    """A table as it is being read."""

    name: str
    line: int
    chains: dict[str, ChainText] = field(default_factory=dict)
    committed: bool = False
