"""The ruleset while it is being read: commands may add to a table again and again, take things out, and empty it."""

from __future__ import annotations

from dataclasses import dataclass, field

from failshut.model.ruleset import (
    Base,
    Chain,
    Family,
    Flowtable,
    NamedMap,
    NamedSet,
    Object,
    Origin,
    Rule,
    Ruleset,
    Table,
)


@dataclass(slots=True)
class ChainDraft:
    """A chain's rules so far."""

    name: str
    origin: Origin | None = None
    base: Base | None = None
    flags: set[str] = field(default_factory=set)
    rules: list[Rule] = field(default_factory=list)

    def chain(self) -> Chain:
        """Return it as it is now."""
        return Chain(self.name, tuple(self.rules), self.base, frozenset(self.flags), self.origin)


@dataclass(slots=True)
class TableDraft:
    """A table's contents so far, by name."""

    family: Family
    name: str
    flags: set[str] = field(default_factory=set)
    chains: dict[str, ChainDraft] = field(default_factory=dict)
    sets: dict[str, NamedSet] = field(default_factory=dict)
    maps: dict[str, NamedMap] = field(default_factory=dict)
    counters: dict[str, None] = field(default_factory=dict)
    flowtables: dict[str, Flowtable] = field(default_factory=dict)
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    anonymous: list[Chain] = field(default_factory=list)

    def chain(self, name: str, origin: Origin | None = None) -> ChainDraft:
        """Return the chain of that name, made if there is none."""
        return self.chains.setdefault(name, ChainDraft(name, origin))

    def table(self) -> Table:
        """Return it as it is now."""
        chains = (*(each.chain() for each in self.chains.values()), *self.anonymous)
        return Table(
            self.family,
            self.name,
            chains,
            tuple(self.sets.values()),
            tuple(self.counters),
            frozenset(self.flags),
            tuple(self.maps.values()),
            tuple(self.flowtables.values()),
            tuple(self.objects.values()),
        )


@dataclass(slots=True)
class Draft:
    """All tables so far."""

    tables: dict[tuple[Family, str], TableDraft] = field(default_factory=dict)

    def table(self, family: Family, name: str) -> TableDraft:
        """Return that table, made if there is none."""
        return self.tables.setdefault((family, name), TableDraft(family, name))

    def ruleset(self) -> Ruleset:
        """Return it as it is now."""
        return Ruleset(tuple(each.table() for each in self.tables.values()))
