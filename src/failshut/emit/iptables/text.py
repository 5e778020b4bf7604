"""Tables as text: on their own, over what the kernel has, or among the rules of a user's file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from failshut.emit.iptables.rules import chain_name, rule_line
from failshut.emit.nft_expressions import UnsupportedError
from failshut.model.iptables import PREFIX, TABLES, Standing, built_in
from failshut.model.ruleset import Chain, Family, Jump, Rule, Ruleset, Table

# The choke point first: what is loaded after it can only open what it has shut.
_ORDER = ("mangle", "filter", "raw", "nat", "security")


class CantSayError(UnsupportedError):
    """Rules that iptables can't say: all of them, each with its chain and its reason. Never dropped, never approximated."""

    def __init__(self, rules: Iterable[str]) -> None:
        self.rules = tuple(rules)
        super().__init__("; ".join(self.rules))


def complete_text(ruleset: Ruleset, family: Family) -> str:
    """Return a file that makes an empty kernel's tables these. Raises `CantSayError`."""
    _must_be_sayable(ruleset)
    return "".join(
        "\n".join((f"*{table.name}", *(f":{each} ACCEPT [0:0]" for each in built_in(table.name)), *_ours(table), "COMMIT", ""))
        for table in _tables(ruleset, family)
    )


def live_text(ruleset: Ruleset, family: Family, standing: Standing) -> str:
    """Return what `iptables-restore --noflush` makes our chains these by, whatever else is in the kernel.

    `standing` is what the kernel has of ours. Without tables of that family in `ruleset` nothing of ours stays. Raises
    `CantSayError`.
    """
    _must_be_sayable(ruleset)
    wanted = {table.name: table for table in _tables(ruleset, family)}
    names = sorted({*wanted, *standing.tables}, key=_ORDER.index)
    return "".join(
        "\n".join((f"*{name}", *_over(wanted.get(name) or Table(family, name), standing, name), "COMMIT", "")) for name in names
    )


def merged_text(text: str, ruleset: Ruleset, family: Family) -> str:
    """Return a user's file with our tables among its own: every other line stays, in its place. Raises `CantSayError`.

    What an earlier lock wrote into it is taken out first. The text must be one that iptables-restore takes.
    """
    _must_be_sayable(ruleset)
    waiting = {table.name: table for table in _tables(ruleset, family)}
    lines: list[str] = []
    current = ""
    for line in text.splitlines():
        if line.startswith("*"):
            current = line[1:].strip()
        if is_ours(line):
            continue
        if line.rstrip() == "COMMIT" and current in waiting:
            lines += _ours(waiting.pop(current))
        lines.append(line)
    return "".join(f"{line}\n" for line in _without_empty(lines)) + complete_text(Ruleset(tuple(waiting.values())), family)


def body_text(ruleset: Ruleset, family: Family) -> str:
    """Return our chains alone, for a loader that sees to the jumps itself: each is said in a comment. Raises `CantSayError`.

    Loaded with `--noflush` any number of times it comes to the same.
    """
    _must_be_sayable(ruleset)
    tables = _tables(ruleset, family)
    jumps = [f"# jump {table.name} {chain} {at} {own}" for table in tables for chain, at, own in _numbered(table)]
    declared = ((f":{each.name} - [0:0]" for each in _own(table)) for table in tables)
    bodies = (
        "\n".join((f"*{table.name}", *names, *_rules(table), "COMMIT")) for table, names in zip(tables, declared, strict=True)
    )
    return "\n".join((*jumps, *bodies, ""))


def shown_text(table: Table) -> str:
    """Return a table of ours as a person reads it, and as two are compared: also with what iptables has and can't be written."""
    lines = [f"*{table.name} ({'IPv4' if table.family is Family.IP else 'IPv6'})"]
    for chain in table.chains:
        lines += [_shown(chain, rule) for rule in chain.rules] or [f":{chain.name} is empty"]
    return "".join(f"{line}\n" for line in lines)


def _shown(chain: Chain, rule: Rule) -> str:
    try:
        return rule_line(chain.name, rule)
    except UnsupportedError:
        return rule.origin.text if rule.origin else f"-A {chain.name} {rule.statements}"


def _numbered(table: Table) -> Iterator[tuple[str, int, str]]:
    """Yield the kernel's chain, the place in it and our chain of each jump."""
    at: dict[str, int] = {}
    for chain, own in _jumps(table):
        at[chain] = at.get(chain, 0) + 1
        yield chain, at[chain], own


def is_ours(line: str) -> bool:
    """Whether a line of a file declares one of our chains, fills one, or jumps to one."""
    words = line.split()
    if not words or words[0] == "#":
        return False
    return any(each.removeprefix(":").startswith(PREFIX) for each in words[:2]) or any(
        words[at] in ("-j", "-g") and words[at + 1].startswith(PREFIX) for at in range(len(words) - 1)
    )


def _without_empty(lines: list[str]) -> Iterator[str]:
    """Yield the lines without the tables in which no rule is left and no policy refuses: those that we alone brought."""
    block: list[str] = []
    for line in lines:
        block.append(line)
        if not (block[0].startswith("*") and line.rstrip() != "COMMIT"):
            inner = block[1:-1]
            bare = block[0].startswith("*") and all(each.startswith(":") and each.split()[1:2] == ["ACCEPT"] for each in inner)
            yield from () if bare else block
            block = []
    yield from block


def _tables(ruleset: Ruleset, family: Family) -> list[Table]:
    mine = [each for each in ruleset.tables if each.family is family and each.name in TABLES]
    return sorted(mine, key=lambda each: _ORDER.index(each.name))


def _own(table: Table) -> list[Chain]:
    return [each for each in table.chains if each.base is None]


def _ours(table: Table) -> Iterator[str]:
    yield from (f":{chain_name(each.name)} - [0:0]" for each in _own(table))
    yield from _rules(table)
    yield from _inserted(table)


def _rules(table: Table) -> Iterator[str]:
    yield from (rule_line(chain.name, rule) for chain in _own(table) for rule in chain.rules)


def _inserted(table: Table) -> Iterator[str]:
    """Yield the jumps, last first: each is put before whatever is there, also by lines of the user's that insert."""
    for chain, target in reversed(list(_jumps(table))):
        yield f"-I {chain} 1 -j {target}"


def _jumps(table: Table) -> Iterator[tuple[str, str]]:
    for chain in table.chains:
        if chain.base is not None:
            for rule in chain.rules:
                for each in rule.statements:
                    if isinstance(each, Jump) and each.target.startswith(PREFIX):
                        yield chain.name, each.target


def _over(table: Table, standing: Standing, name: str) -> Iterator[str]:
    mine = [chain_name(each.name) for each in _own(table)]
    stale = [each for each in standing.chains(name) if each not in mine]
    yield from (f":{each} - [0:0]" for each in mine)
    yield from (f"-D {chain} -j {target}" for chain, target in standing.jumps(name))
    yield from (f"-F {each}" for each in stale)
    yield from _rules(table)
    yield from (f"-X {each}" for each in stale)
    yield from _inserted(table)


def _must_be_sayable(ruleset: Ruleset) -> None:
    """Raise `CantSayError` with everything that can't be said."""
    wrong = []
    for table in ruleset.tables:
        for chain in _own(table):
            for rule in chain.rules:
                try:
                    rule_line(chain.name, rule)
                except UnsupportedError as error:
                    wrong.append(f"{rule.comment or chain.name}: {error}")
    if wrong:
        raise CantSayError(dict.fromkeys(wrong))
