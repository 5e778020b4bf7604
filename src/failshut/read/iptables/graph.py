"""Which chains of a table call which: where each is reached from, and where they call each other in a circle."""

from __future__ import annotations

from failshut.model.iptables import built_in
from failshut.read.iptables.tree import RuleText, TableText

Edge = tuple[str, int]


def calls(table: TableText, rule: RuleText) -> str:
    """Return the chain that a rule jumps or goes to; empty when it does not."""
    return rule.target.name if rule.target and rule.target.name in table.chains else ""


def reached_from(table: TableText) -> dict[str, tuple[str, ...]]:
    """Return, for each chain, the kernel's own chains from which a packet can come to it."""
    targets = {name: {calls(table, rule) for rule in chain.rules} - {""} for name, chain in table.chains.items()}
    found: dict[str, list[str]] = {name: [] for name in table.chains}
    for start in built_in(table.name):
        waiting = [start] if start in table.chains else []
        seen = set(waiting)
        while waiting:
            name = waiting.pop()
            found[name].append(start)
            waiting += sorted(targets[name] - seen)
            seen |= targets[name]
    return {name: tuple(starts) for name, starts in found.items()}


def circles(table: TableText) -> set[Edge]:
    """Return the rules, as (chain, index), that lead back to a chain which is being gone through."""
    found: set[Edge] = set()
    done: set[str] = set()
    for start in table.chains:
        if start not in done:
            _walk(table, start, done, found)
    return found


def _walk(table: TableText, start: str, done: set[str], found: set[Edge]) -> None:
    # A stack of its own: a file may have a chain of chains longer than Python's.
    path = [(start, 0)]
    within = {start}
    while path:
        name, index = path.pop()
        rules = table.chains[name].rules
        while index < len(rules):
            target = calls(table, rules[index])
            if target in within:
                found.add((name, index))
            elif target and target not in done:
                path.append((name, index + 1))
                path.append((target, 0))
                within.add(target)
                break
            index += 1
        else:
            within.discard(name)
            done.add(name)
