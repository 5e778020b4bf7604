"""What a rule sends past the hooks, where no proof follows: copies (`dup`, `fwd` in a netdev chain), and offloaded flows."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.audit.approximation import Approximation
from failshut.audit.netfilter.words import names_match
from failshut.audit.world import LOOPBACK, World
from failshut.model.ruleset import Base, Duplicate, Forward, Hook, Offload, Ruleset, Table, Verdict


def stray_copies(ruleset: Ruleset, world: World) -> tuple[Approximation, ...]:
    """Return each rule that sends on the underlay what passes through loopback, a tunnel or a bridge.

    What is copied from an underlay device is worked out with its way; from another, it would leave where nothing judges it.
    """
    return tuple(made for table in ruleset.tables if "dormant" not in table.flags for made in _of_table(table, world))


def offloads(ruleset: Ruleset, world: World, family: int) -> tuple[Approximation, ...]:
    """Return each rule that lets forwarded flows of a family go on past IP's hooks, by a device that nothing holds below it.

    The rule offloads the connection also where the packet itself is refused afterwards.
    """
    here = {"inet", "ip" if family == 4 else "ip6"}
    tables = [each for each in ruleset.tables if "dormant" not in each.flags]
    return tuple(made for table in tables if table.family in here for made in _offloads(table, tables, world))


def _offloads(table: Table, tables: list[Table], world: World) -> Iterator[Approximation]:
    inside = (LOOPBACK, *world.tunnels, *world.inside)
    held = {
        name
        for each in tables
        for chain in each.chains
        if chain.base and chain.base.hook is Hook.EGRESS and chain.base.policy is Verdict.DROP
        for name in chain.base.device.split(",")
    }
    outside = {each.name: {device for device in each.devices if not _stays(device, inside)} for each in table.flowtables}
    for chain in table.chains:
        for index, rule in enumerate(chain.rules):
            for each in rule.statements:
                if isinstance(each, Offload) and not outside.get(each.flowtable, set()) <= held:
                    place = f"{table.family}/{table.name}/{chain.name}:{index}"
                    yield Approximation(place, "what goes on past the hooks", str(rule.origin) if rule.origin else place)


def _of_table(table: Table, world: World) -> Iterator[Approximation]:
    inside = (LOOPBACK, *world.tunnels, *world.inside)
    bases = [each.base for each in table.chains if each.base]
    # A chain without a hook is called by one that has one: the table's hooks are asked for.
    if not any(_hangs_on(each, inside) for each in bases):
        return
    for chain in table.chains:
        for index, rule in enumerate(chain.rules):
            for each in rule.statements:
                if isinstance(each, Duplicate | Forward) and not _stays(each.device, inside):
                    place = f"{table.family}/{table.name}/{chain.name}:{index}"
                    what = (
                        "a copy that leaves by another device"
                        if isinstance(each, Duplicate)
                        else "what is sent on by another device"
                    )
                    yield Approximation(place, what, str(rule.origin) if rule.origin else place)


def _hangs_on(base: Base, devices: tuple[str, ...]) -> bool:
    if base.hook not in (Hook.INGRESS, Hook.EGRESS):
        return False
    return any(not name or any(names_match(each, name) for each in devices) for name in base.device.split(","))


def _stays(device: object, inside: tuple[str, ...]) -> bool:
    return isinstance(device, str) and any(names_match(each, device) for each in inside)
