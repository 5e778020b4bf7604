"""What the rules tell apart: devices by their names and patterns, programs by their control groups."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.audit.world import LOOPBACK, World
from failshut.model.ruleset import AnySet, Jump, Meta, Ruleset, Socket


def patterns(ruleset: Ruleset, world: World) -> frozenset[str]:
    """Return every device name and pattern that the rules or the question tell apart."""
    found = {LOOPBACK, *world.tunnels, *world.underlay, *world.inside, *world.uplinked}
    for table in ruleset.tables:
        for chain in table.chains:
            if chain.base and chain.base.device:
                found.update(chain.base.device.split(","))
            for rule in chain.rules:
                for statement in rule.statements:
                    _names(statement, found)
        for each in table.sets:
            _keyed(each.key, each.elements, found)
        for entry in table.maps:
            _keyed(entry.key, entry.elements, found)
    return frozenset(each for each in found if each)


def group_levels(ruleset: Ruleset) -> tuple[int, ...]:
    """Return the levels of the hierarchy of control groups at which the rules tell programs apart."""
    rules = (rule for table in ruleset.tables for chain in table.chains for rule in chain.rules)
    found = {level for rule in rules for statement in rule.statements for level in _levels(statement)}
    return tuple(sorted(found))


def _levels(node: object) -> Iterator[int]:
    if isinstance(node, Socket):
        yield from (node.level,) if node.key == "cgroupv2" else ()
    elif isinstance(node, tuple):
        yield from (level for each in node for level in _levels(each))
    else:
        yield from (level for each in getattr(node, "__dataclass_fields__", ()) for level in _levels(getattr(node, each)))


def _keyed(key: tuple[str, ...], elements: object, found: set[str]) -> None:
    if "ifname" in key or "iface_index" in key:
        _strings(elements, found)


_NAME_KEYS = frozenset({"iifname", "oifname", "iif", "oif", "ibrname", "obrname", "sdifname"})


def _names(node: object, found: set[str]) -> None:
    """Collect the strings that stand beside a load of a device's name, however deep."""
    if _loads_name(node):
        _strings(node, found)


def _loads_name(node: object) -> bool:
    if isinstance(node, Meta):
        return node.key in _NAME_KEYS
    if isinstance(node, AnySet):
        # Constants, and as many as 100,000.
        return False
    if isinstance(node, tuple):
        return any(_loads_name(each) for each in node)
    return any(_loads_name(getattr(node, each)) for each in getattr(node, "__dataclass_fields__", ()))


def _strings(node: object, found: set[str]) -> None:
    if type(node) is str:
        if 0 < len(node.encode()) <= 16:
            found.add(node)
    elif isinstance(node, tuple):
        for each in node:
            _strings(each, found)
    # A chain may be called like a device.
    elif not isinstance(node, Meta | Jump):
        for each in getattr(node, "__dataclass_fields__", ()):
            _strings(getattr(node, each), found)
