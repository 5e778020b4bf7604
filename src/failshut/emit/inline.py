"""The lock as lines of [Interface] in a wg-quick config: PostUp loads it, PreDown takes it away.

wg-quick gives each line to bash, with the interface's name for `%i`. The rules are written into a file under /run and loaded in one
transaction, so that nothing is half loaded; the mark is asked for when the line runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.emit.iptables import live_text
from failshut.emit.nft import UnsupportedError, emit
from failshut.model.inline import MARK, TABLE, TUNNEL, Tool
from failshut.model.iptables import Standing
from failshut.model.ruleset import Chain, Family, Jump, Ruleset

# Spelled as nft's texts and as iptables' have it.
_MARKS = (f"{int(MARK):#010x}", f"{int(MARK):#x}")
_ASKED = "'\"$(wg show %i fwmark)\"'"
_FILE = "/run/failshut-%i"
_LONGEST = 250
_PROGRAMS = {Family.IP6: "ip6tables", Family.IP: "iptables"}


def inline_lines(ruleset: Ruleset, tool: Tool, shut: Ruleset | None = None) -> tuple[str, ...]:
    """Return the PostUp and PreDown lines. `shut` refuses everything while the first family's rules load.

    Raises `UnsupportedError` for what the tool can't say.
    """
    if tool is Tool.NFT:
        return (*_from_file("PostUp", emit(ruleset), "nft", f"nft -f {_FILE}.nft"), f"PreDown = nft delete table inet {TABLE}")
    lines: list[str] = []
    for family in _PROGRAMS if shut else ():
        lines += _loaded("PostUp", live_text(shut or ruleset, family, Standing()), family)
    for family in _PROGRAMS:
        lines += _loaded("PostUp", live_text(ruleset, family, Standing()), family)
    for family in _PROGRAMS:
        lines += _removed(ruleset, family)
    return tuple(lines)


def _loaded(key: str, text: str, family: Family) -> Iterator[str]:
    program = _PROGRAMS[family]
    return _from_file(key, text, program, f"{program}-restore -w --noflush <{_FILE}.{program}")


def _from_file(key: str, text: str, ending: str, command: str) -> Iterator[str]:
    """Yield the lines that write a text and then load it at once. Raises `UnsupportedError` for a text with a `#`.

    wg-quick takes what follows a `#` for a comment, and for a line of 10,000 characters a minute: so a line is short.
    """
    if "#" in text:
        raise UnsupportedError("wg-quick takes a `#` for the beginning of a comment")
    path, redirect = f"{_FILE}.{ending}", ">"
    waiting: list[str] = []
    for line in filter(None, (each.strip() for each in text.splitlines())):
        if waiting and sum(map(len, waiting)) + len(line) > _LONGEST:
            yield _written(key, waiting, redirect, path)
            waiting, redirect = [], ">>"
        waiting.append(line)
    yield _written(key, waiting, redirect, path)
    yield f"{key} = {command}; e=$?; rm -f {path}; exit $e"


def _written(key: str, lines: list[str], redirect: str, path: str) -> str:
    return f"{key} = umask 077; printf '%s\\n' {' '.join(map(_quoted, lines))} {redirect}{path}"


def _quoted(text: str) -> str:
    """Return a word for bash, with what only the running tunnel knows."""
    for mark in _MARKS:
        text = text.replace(mark, _ASKED)
    return "'" + text.replace(str(TUNNEL), "%i") + "'"


def _removed(ruleset: Ruleset, family: Family) -> Iterator[str]:
    """Yield what takes every jump away, however often PostUp was run, and then the chains."""
    program = _PROGRAMS[family]
    for table, chain, own in _jumps(ruleset, family):
        yield f"PreDown = while {program} -w -t {table} -D {chain} -j {own} 2>/dev/null; do :; done"
    tables = {
        table.name: tuple(each.name for each in table.chains if each.base is None)
        for table in ruleset.tables
        if table.family is family
    }
    yield from _loaded("PreDown", live_text(Ruleset(), family, Standing(tables)), family)


def _jumps(ruleset: Ruleset, family: Family) -> Iterator[tuple[str, str, str]]:
    for table in ruleset.tables:
        for chain in table.chains if table.family is family else ():
            for target in _targets(chain):
                yield table.name, chain.name, target


def _targets(chain: Chain) -> Iterator[str]:
    if chain.base is not None:
        yield from (each.target for rule in chain.rules for each in rule.statements if isinstance(each, Jump))
