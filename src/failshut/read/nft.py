"""The kernel's nftables, from the two listings that nft gives: JSON for the rules, text for what its JSON loses.

Measured with nft 1.0.6: JSON prints a dormant (switched-off) table's flags as the release's name, leaves `device` out of netdev
chains and `dynamic` out of sets. A reader that trusts JSON alone takes a switched-off lock for a live one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from failshut.model.ruleset import Chain, Match, NamedSet, Ruleset, Socket, Statement, Table
from failshut.read import nft_json

_TABLE = re.compile(r"table (?P<family>\w+) (?P<name>\S+) \{")
_BLOCK = re.compile(r"\t(?P<kind>set|map|chain|counter) (?P<name>\S+) \{")
_TABLE_FLAGS = re.compile(r"\tflags (?P<flags>\S.*)")
_SET_FLAGS = re.compile(r"\t\tflags (?P<flags>\S.*)")
_LEVELS = re.compile(r"\bsocket cgroupv2 level (\d+)")
_DEVICE = re.compile(r'\t\ttype \w+ hook \w+ devices? (?:= \{ )?(?P<devices>"[^"]+"(?:, "[^"]+")*)')


@dataclass(slots=True)
class _Header:
    """What the text listing says of one table and the JSON does not."""

    flags: frozenset[str] = frozenset()
    set_flags: dict[str, frozenset[str]] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    # The levels of a chain's `socket cgroupv2`, in the order of its rules.
    levels: dict[str, list[int]] = field(default_factory=dict)


def read(json_listing: str, text_listing: str) -> Ruleset:
    """Return the ruleset of `nft -j list …` and `nft list …` of the same tables. Raises ValueError for text that is neither."""
    headers = _headers(text_listing)
    tables = nft_json.decode(json_listing).tables
    return Ruleset(tuple(_joined(table, headers.get((table.family, table.name), _Header())) for table in tables))


def _joined(table: Table, header: _Header) -> Table:
    return replace(
        table,
        flags=header.flags,
        sets=tuple(_with_flags(each, header) for each in table.sets),
        chains=tuple(_with_levels(_with_device(each, header), header) for each in table.chains),
    )


def _with_flags(named: NamedSet, header: _Header) -> NamedSet:
    return replace(named, flags=header.set_flags.get(named.name, frozenset()))


def _with_device(chain: Chain, header: _Header) -> Chain:
    device = header.devices.get(chain.name)
    return replace(chain, base=replace(chain.base, device=device)) if chain.base and device else chain


def _with_levels(chain: Chain, header: _Header) -> Chain:
    levels = iter(header.levels.get(chain.name, ()))
    if not header.levels.get(chain.name):
        return chain
    return replace(
        chain,
        rules=tuple(replace(rule, statements=tuple(_with_level(each, levels) for each in rule.statements)) for rule in chain.rules),
    )


def _with_level(statement: Statement, levels: Iterator[int]) -> Statement:
    if isinstance(statement, Match) and isinstance(statement.left, Socket) and statement.left.key == "cgroupv2":
        return replace(statement, left=replace(statement.left, level=next(levels, 0)))
    return statement


def _headers(text: str) -> dict[tuple[str, str], _Header]:
    found: dict[tuple[str, str], _Header] = {}
    header, block = _Header(), ""
    for line in text.splitlines():
        if opened := _TABLE.match(line):
            header = found.setdefault((opened["family"], opened["name"]), _Header())
        elif opened := _BLOCK.match(line):
            block = opened["name"]
        elif flags := _SET_FLAGS.match(line):
            header.set_flags[block] = _words(flags["flags"])
        elif flags := _TABLE_FLAGS.match(line):
            header.flags = _words(flags["flags"])
        elif devices := _DEVICE.match(line):
            header.devices[block] = devices["devices"].replace('"', "").replace(" ", "")
        elif levels := _LEVELS.findall(line):
            header.levels.setdefault(block, []).extend(map(int, levels))
    return found


def _words(flags: str) -> frozenset[str]:
    return frozenset(word.strip() for word in flags.split(","))
