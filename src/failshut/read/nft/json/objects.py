"""Tables, chains, sets and rules of nft's JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from failshut.model.finding import Code
from failshut.model.ruleset import (
    Base,
    Chain,
    ChainType,
    Family,
    Flowtable,
    Hook,
    Limit,
    NamedMap,
    NamedSet,
    Object,
    Origin,
    Quota,
    Rule,
    Statement,
    Table,
    Unknown,
    UnknownMatch,
    Verdict,
)
from failshut.read.nft.json.expressions import elements, mappings
from failshut.read.nft.json.statements import limit_of, quota_of, statement
from failshut.read.nft.meaning import XT_IS_SILENT
from failshut.read.nft.source import Source, printable
from failshut.read.nft.text import read_rule
from failshut.read.reading import Approximation

_TABLE_FLAGS = frozenset({"dormant", "owner", "persist"})
_OBJECTS = ("limit", "quota", "ct helper", "ct timeout", "ct expectation", "secmark", "synproxy")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing, where it begins, and its text."""

    kind: str
    body: Mapping[str, Any]
    offset: int
    text: str


@dataclass(slots=True)
class _Draft:
    """A table while its parts are gathered."""

    table: Table
    chains: dict[str, Chain] = field(default_factory=dict)
    rules: dict[str, list[Rule]] = field(default_factory=dict)
    anonymous: list[Chain] = field(default_factory=list)
    sets: dict[str, NamedSet] = field(default_factory=dict)
    maps: dict[str, NamedMap] = field(default_factory=dict)
    counters: list[str] = field(default_factory=list)
    objects: list[Object] = field(default_factory=list)
    flowtables: list[Flowtable] = field(default_factory=list)


@dataclass(slots=True)
class _Reader:
    """Gathers objects into tables; what is wrong is noted in the source, what is not understood in `noted`."""

    source: Source
    noted: list[Approximation]
    drafts: dict[tuple[str, str], _Draft] = field(default_factory=dict)

    def read(self, entry: Entry) -> None:
        """Take one object."""
        reader = _READERS.get(entry.kind)
        if reader is None:
            if entry.kind != "metainfo":
                self.source.error(Code.RULES_SYNTAX, f"an object of an unknown kind: {entry.kind}", entry.offset)
            return
        try:
            reader(self, entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"a {entry.kind} that can't be read: {type(error).__name__} {error}"
            self.source.error(Code.RULES_SYNTAX, message, entry.offset)

    def draft(self, entry: Entry) -> _Draft:
        """Return the table that an object belongs to."""
        return self.drafts[entry.body["family"], entry.body["table"]]

    def origin(self, entry: Entry) -> Origin:
        """Return where an object stands."""
        return Origin(self.source.name, self.source.line_of(entry.offset), printable(" ".join(entry.text.split())))

    def assume(self, entry: Entry, text: str, assumed: str) -> None:
        """Note what was not understood."""
        self.noted.append(Approximation(printable(text), assumed, self.source.place(entry.offset)))


def tables_of(entries: list[Entry], source: Source, noted: list[Approximation]) -> tuple[Table, ...]:
    """Return the tables of a listing."""
    reader = _Reader(source, noted)
    # Rules may stand before their chain, and anything before its table.
    for kinds in (("table",), ("chain",), None):
        for each in entries:
            if each.kind in (kinds or ()) or (kinds is None and each.kind not in ("table", "chain")):
                reader.read(each)
    return tuple(_table(each) for each in reader.drafts.values())


def _table(draft: _Draft) -> Table:
    chains = (replace(each, rules=tuple(draft.rules.get(each.name, ()))) for each in draft.chains.values())
    return replace(
        draft.table,
        chains=(*chains, *draft.anonymous),
        sets=tuple(draft.sets.values()),
        maps=tuple(draft.maps.values()),
        counters=tuple(draft.counters),
        objects=tuple(draft.objects),
        flowtables=tuple(draft.flowtables),
    )


def _read_table(reader: _Reader, entry: Entry) -> None:
    body = entry.body
    raw = body.get("flags", ())
    flags = frozenset([raw] if isinstance(raw, str) else raw)
    if flags - _TABLE_FLAGS:
        message = f"this release of nft does not say which flags table {body['name']} has: it may be switched off"
        reader.source.error(Code.RULES_BAD_VALUE, message, entry.offset, "give the text of `nft list ruleset` instead")
    table = Table(Family(body["family"]), str(body["name"]), flags=flags & _TABLE_FLAGS)
    reader.drafts[body["family"], body["name"]] = _Draft(table)


def _read_chain(reader: _Reader, entry: Entry) -> None:
    body = entry.body
    chain = Chain(str(body["name"]), base=_base(body), flags=frozenset(body.get("flags", ())), origin=reader.origin(entry))
    if chain.base and chain.base.hook in (Hook.INGRESS, Hook.EGRESS) and not chain.base.device:
        reader.assume(entry, f"chain {chain.name}", "it may hang on no device at all: this release of nft does not say on which")
    reader.draft(entry).chains[chain.name] = chain


def _base(body: Mapping[str, Any]) -> Base | None:
    if "hook" not in body:
        return None
    device = body.get("dev", "")
    return Base(
        ChainType(body["type"]),
        Hook(body["hook"]),
        int(body["prio"]),
        Verdict(body.get("policy", "accept")),
        device if isinstance(device, str) else ",".join(device),
    )


def _read_rule(reader: _Reader, entry: Entry) -> None:
    draft, body = reader.draft(entry), entry.body
    found: list[Statement] = []
    for each in body.get("expr", ()):
        # A chain within a rule stands as text, even in JSON.
        if isinstance(each, str):
            rule, chains, approximations = read_rule(each, reader.source.name, draft.table.family, len(draft.anonymous))
            found += rule.statements
            draft.anonymous += chains
            reader.noted += [replace(noted, place=reader.source.place(entry.offset)) for noted in approximations]
            continue
        found.append(statement(each, draft.table.family))
        if isinstance(found[-1], Unknown | UnknownMatch):
            assumed = "it may do anything" if isinstance(found[-1], Unknown) else "it may match or not"
            why = f": {XT_IS_SILENT}" if found[-1].text.startswith("xt ") else ""
            reader.assume(entry, found[-1].text, assumed + why)
    if body["chain"] not in draft.chains:
        raise KeyError(body["chain"])
    draft.rules.setdefault(body["chain"], []).append(Rule(tuple(found), body.get("comment", ""), reader.origin(entry)))


def _read_set(reader: _Reader, entry: Entry) -> None:
    body = entry.body
    flags, key = frozenset(body.get("flags", ())), _types(body["type"])
    known = [] if "dynamic" in flags else _contents(reader, entry, lambda: elements(body.get("elem", []), key))
    statements = body.get("stmt", ())
    if any("counter" not in each for each in statements):
        reader.assume(entry, f"the set {body['name']}", "anything may be in it: its elements match or not by what came before")
        known = None
    reader.draft(entry).sets[body["name"]] = NamedSet(
        str(body["name"]),
        key,
        flags,
        size=body.get("size", 0),
        timeout=body.get("timeout", 0),
        counter=any("counter" in each for each in statements),
        elements=None if known is None else tuple(known),
        origin=reader.origin(entry),
    )


def _read_map(reader: _Reader, entry: Entry) -> None:
    body = entry.body
    flags, key, data = frozenset(body.get("flags", ())), _types(body["type"]), _types(body["map"])
    known = [] if "dynamic" in flags else _contents(reader, entry, lambda: mappings(body.get("elem", []), key, data))
    reader.draft(entry).maps[body["name"]] = NamedMap(
        str(body["name"]),
        key,
        data,
        flags,
        size=body.get("size", 0),
        timeout=body.get("timeout", 0),
        elements=None if known is None else tuple(known),
        origin=reader.origin(entry),
    )


def _contents(reader: _Reader, entry: Entry, read: Callable[[], list[Any]]) -> list[Any] | None:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reader.assume(entry, f"the {entry.kind} {entry.body['name']}", f"anything may be in it: {error}")
        return None


def _types(raw: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in raw) if isinstance(raw, list) else (str(raw),)


def _read_counter(reader: _Reader, entry: Entry) -> None:
    reader.draft(entry).counters.append(str(entry.body["name"]))


def _read_object(reader: _Reader, entry: Entry) -> None:
    readers: dict[str, Callable[[Mapping[str, Any]], Limit | Quota]] = {"limit": limit_of, "quota": quota_of}
    found = readers[entry.kind](entry.body) if entry.kind in readers else None
    reader.draft(entry).objects.append(Object(entry.kind, str(entry.body["name"]), found))


def _read_flowtable(reader: _Reader, entry: Entry) -> None:
    device = entry.body.get("dev", ())
    devices = (device,) if isinstance(device, str) else tuple(str(each) for each in device)
    flowtable = Flowtable(str(entry.body["name"]), int(entry.body.get("prio", 0)), devices)
    reader.draft(entry).flowtables.append(flowtable)


def _read_element(reader: _Reader, entry: Entry) -> None:
    """Take elements that are listed apart from their set."""
    draft, name = reader.draft(entry), entry.body["name"]
    if name in draft.sets:
        draft.sets[name] = replace(draft.sets[name], elements=None)
    if name in draft.maps:
        draft.maps[name] = replace(draft.maps[name], elements=None)
    reader.assume(entry, f"the set {name}", "anything may be in it: its elements stand apart from it")


_READERS: dict[str, Callable[[_Reader, Entry], None]] = {
    "table": _read_table,
    "chain": _read_chain,
    "rule": _read_rule,
    "set": _read_set,
    "map": _read_map,
    "counter": _read_counter,
    "flowtable": _read_flowtable,
    "element": _read_element,
    **dict.fromkeys(_OBJECTS, _read_object),
}
