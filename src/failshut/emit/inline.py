"""The lock as lines of [Interface] in a wg-quick config: PostUp loads it, PreDown takes it away.

wg-quick gives each line to bash, with the interface's name for `%i`. A line is one transaction of one family, so that nothing is
half loaded; the mark is asked for when the line runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.emit.iptables import live_text
from failshut.emit.nft import emit
from failshut.model.inline import MARK, TABLE, TUNNEL, Tool
from failshut.model.iptables import Standing
from failshut.model.ruleset import Chain, Family, Jump, Ruleset

# Spelled as nft's texts and as iptables' have it.
_MARKS = (f"{int(MARK):#010x}", f"{int(MARK):#x}")
_ASKED = "'\"$(wg show %i fwmark)\"'"
_PROGRAMS = {Family.IP6: "ip6tables", Family.IP: "iptables"}


def inline_lines(ruleset: Ruleset, tool: Tool, shut: Ruleset | None = None) -> tuple[str, ...]:
    """Return the PostUp and PreDown lines. `shut` refuses everything while the first family's rules load.

    Raises `UnsupportedError` for what the tool can't say.
    """
    if tool is Tool.NFT:
        return (f"PostUp = nft {_quoted(_on_one_line(emit(ruleset)))}", f"PreDown = nft delete table inet {TABLE}")
    first = [_loaded(shut, family) for family in _PROGRAMS] if shut else []
    ups = (*first, *(_loaded(ruleset, family) for family in _PROGRAMS))
    return (*(f"PostUp = {each}" for each in ups), *(f"PreDown = {_removed(ruleset, family)}" for family in _PROGRAMS))


def _on_one_line(text: str) -> str:
    """Return nft's text with semicolons where its lines end."""
    lines = (line.strip() for line in text.splitlines())
    return " ".join(line if line.endswith(("{", ";")) else f"{line};" for line in lines if line)


def _quoted(text: str) -> str:
    """Return a word for bash, with what only the running tunnel knows."""
    for mark in _MARKS:
        text = text.replace(mark, _ASKED)
    return "'" + text.replace(str(TUNNEL), "%i") + "'"


def _piped(lines: list[str], family: Family) -> str:
    return f"printf '%s\\n' {' '.join(map(_quoted, lines))} | {_PROGRAMS[family]}-restore -w --noflush"


def _loaded(ruleset: Ruleset, family: Family) -> str:
    return _piped(live_text(ruleset, family, Standing()).splitlines(), family)


def _removed(ruleset: Ruleset, family: Family) -> str:
    """Return what takes every jump away, however often PostUp was run, and then the chains."""
    jumps = " ".join(f"'{table} {chain} {own}'" for table, chain, own in _jumps(ruleset, family))
    program = _PROGRAMS[family]
    loop = f"for j in {jumps}; do set -- $j; while {program} -w -t $1 -D $2 -j $3 2>/dev/null; do :; done; done"
    tables = {
        table.name: tuple(each.name for each in table.chains if each.base is None)
        for table in ruleset.tables
        if table.family is family
    }
    gone = live_text(Ruleset(), family, Standing(tables))
    return f"{loop}; {_piped(gone.splitlines(), family)}"


def _jumps(ruleset: Ruleset, family: Family) -> Iterator[tuple[str, str, str]]:
    for table in ruleset.tables:
        for chain in table.chains if table.family is family else ():
            for target in _targets(chain):
                yield table.name, chain.name, target


def _targets(chain: Chain) -> Iterator[str]:
    if chain.base is not None:
        yield from (each.target for rule in chain.rules for each in rule.statements if isinstance(each, Jump))
