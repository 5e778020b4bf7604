"""Which base chains a packet meets, in the kernel's order: hooks, priorities, families, devices, dormant tables.

Source: linux/netfilter_ipv4.h (priorities), net/netfilter/core.c; nat chains hang behind one hook of their own at a fixed priority
(net/netfilter/nf_nat_core.c), whatever theirs is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, permutations, product
from math import factorial, prod

from failshut.audit.netfilter.words import SOURCE_TRANSLATED, TARGET_TRANSLATED
from failshut.model.ruleset import (
    Assign,
    Base,
    Chain,
    ChainType,
    Family,
    Hook,
    Jump,
    Match,
    Nat,
    Notrack,
    Op,
    Payload,
    RawPayload,
    Rule,
    Ruleset,
    SetRef,
    Statement,
    Table,
    Unknown,
    VerdictMap,
)

CONNTRACK_PRIORITY = -200
_NAT_PRIORITY = {Hook.PREROUTING: -100, Hook.OUTPUT: -100, Hook.POSTROUTING: 100, Hook.INPUT: 100}
MOST_ORDERS = 24
# JUMP_STACK_SIZE of nf_tables.h: the kernel refuses deeper rulesets; a text may hold them all the same.
DEEPEST_JUMP = 16
# So many calls one within the other, of either kind, are followed; a circle has no end.
DEEPEST_CALL = 100
# A set's flag: it may hold anything, but for one packet and one key always the same.
ANYTHING = "anything"


class Way(StrEnum):
    """How a packet goes through the machine. A frame is handed to a device below IP (AF_PACKET, ARP)."""

    OUTPUT = "output"
    FORWARD = "forward"
    INPUT = "input"
    FRAME = "frame"


HOOKS: dict[Way, tuple[Hook, ...]] = {
    Way.OUTPUT: (Hook.OUTPUT, Hook.POSTROUTING, Hook.EGRESS),
    Way.FORWARD: (Hook.INGRESS, Hook.PREROUTING, Hook.FORWARD, Hook.POSTROUTING, Hook.EGRESS),
    Way.INPUT: (Hook.INGRESS, Hook.PREROUTING, Hook.INPUT),
    Way.FRAME: (Hook.EGRESS,),
}
# What the kernel routes a packet anew for besides its mark and addresses (nf_route_table_hook4 and 6, ip6t_mangle_out), as the
# fields are called in `fields`: one flag stands for all of them, raised by whatever writes them.
ROUTED_ANEW = "routed anew"
_ROUTED_BY = {4: ("ip dscp", "ip ecn"), 6: ("hop limit", "ip6 dscp", "ip6 ecn", "ip6 flowlabel")}
_LAYER3 = {4: (Family.INET, Family.IP), 6: (Family.INET, Family.IP6), 0: ()}


@dataclass(frozen=True, slots=True)
class Stop:
    """One base chain on the way. `early`: the packet's connection is not looked up yet."""

    hook: Hook
    table: Table
    chain: Chain
    base: Base

    @property
    def on_devices(self) -> bool:
        """Whether the chain is called for its own devices alone."""
        return self.hook in (Hook.INGRESS, Hook.EGRESS)

    @property
    def early(self) -> bool:
        """Whether connection tracking has not seen the packet at this hook yet."""
        return self.hook in (Hook.PREROUTING, Hook.OUTPUT) and self.base.priority < CONNTRACK_PRIORITY

    @property
    def is_nat(self) -> bool:
        """Whether the chain is only asked about the first packet of a connection."""
        return self.base.type is ChainType.NAT

    @property
    def prefix(self) -> str:
        """What begins the name of every place in the chain, and in those that it calls."""
        return f"{self.table.engine}/{self.table.family}/{self.table.name}/{self.hook}/"


@dataclass(frozen=True, slots=True)
class Route:
    """The hooks of a way with the base chains of each, in one possible order. `exact` is False when there were too many orders."""

    way: Way
    family: int
    hooks: tuple[tuple[Hook, tuple[Stop, ...]], ...]
    exact: bool = True
    # What conntrack's status of a connection can't say: that it is translated, where no rule of the machine translates.
    never: int = 0
    # Whether a packet has the protocol of its connection all the way: no rule writes another into it.
    keeps_protocol: bool = True


def changes_the_route(target: object, name: str, family: int) -> bool:
    """Whether writing a field may have the packet routed anew; `name` is "" for one that the audit does not compute."""
    if name:
        return name in _ROUTED_BY.get(family, ())
    return isinstance(target, RawPayload) or (isinstance(target, Payload) and target.protocol in ("ip", "ip6"))


def routes(ruleset: Ruleset, way: Way, family: int) -> tuple[Route, ...]:
    """Return every order in which the kernel may call the chains: one, unless chains of one priority write what others read.

    `family` is 4, 6, or 0 for a frame that carries neither.
    """
    groups = [_groups(_stops(ruleset, hook, family)) for hook in HOOKS[way]]
    count = prod(factorial(len(group)) for hook in groups for group in hook if _order_matters(group))
    exact = count <= MOST_ORDERS
    choices = [[sum(order, ()) for order in product(*(_orders(group) if exact else (group,) for group in hook))] for hook in groups]
    said = (_not_translated(ruleset), not any(map(_writes_protocol, ruleset.statements())))
    return tuple(Route(way, family, tuple(zip(HOOKS[way], each, strict=True)), exact, *said) for each in product(*choices))


def is_straight(ruleset: Ruleset) -> bool:
    """Whether a packet goes to where it was first routed: no rule translates it, or has it routed anew."""
    if _not_translated(ruleset) != SOURCE_TRANSLATED | TARGET_TRANSLATED:
        return False
    chains = [(table, chain) for table in ruleset.tables for chain in table.chains if chain.base]
    return not any(chain.base.type is ChainType.ROUTE and writes(table, chain) for table, chain in chains if chain.base)


def _writes_protocol(statement: Statement) -> bool:
    target = statement.target if isinstance(statement, Assign) else None
    return isinstance(target, RawPayload) or (isinstance(target, Payload) and target.field in ("protocol", "nexthdr"))


def _not_translated(ruleset: Ruleset) -> int:
    """Return the bits of the status (nf_conntrack_common.h) that no rule sets: source and destination, translated or done so."""
    said = list(ruleset.statements())
    if any(isinstance(each, Unknown) for each in said):
        return 0
    kinds = {each.kind.value for each in said if isinstance(each, Nat)}
    source = 0 if kinds & {"snat", "masquerade"} else SOURCE_TRANSLATED
    return source | (0 if kinds & {"dnat", "redirect"} else TARGET_TRANSLATED)


def _stops(ruleset: Ruleset, hook: Hook, family: int) -> list[Stop]:
    found = []
    for table in ruleset.tables:
        if "dormant" in table.flags or not _concerns(table.family, hook, family):
            continue
        found += [Stop(hook, table, each, each.base) for each in table.chains if each.base and each.base.hook is hook]
    return sorted(found, key=_order)


def _concerns(table: Family, hook: Hook, family: int) -> bool:
    if hook in (Hook.INGRESS, Hook.EGRESS):
        return table is Family.NETDEV or (table is Family.INET and hook is Hook.INGRESS)
    return table in _LAYER3[family]


def _order(stop: Stop) -> tuple[int, int]:
    if stop.is_nat:
        return _NAT_PRIORITY.get(stop.hook, stop.base.priority), stop.base.priority
    return stop.base.priority, 0


def _groups(stops: list[Stop]) -> list[tuple[Stop, ...]]:
    return [tuple(group) for _, group in groupby(stops, key=_order)]


def _orders(group: tuple[Stop, ...]) -> tuple[tuple[Stop, ...], ...]:
    return tuple(permutations(group)) if _order_matters(group) else (group,)


def _order_matters(group: tuple[Stop, ...]) -> bool:
    return len(group) > 1 and not _apart(group) and any(writes(each.table, each.chain) for each in group)


def _apart(group: tuple[Stop, ...]) -> bool:
    """Whether no packet meets two of these chains: each hangs on devices of its own."""
    devices = [device for each in group for device in each.base.device.split(",")]
    return "" not in devices and len(set(devices)) == len(devices)


def writes(table: Table, chain: Chain) -> bool:
    """Whether a chain, or one that it may call, changes something that another rule can ask for."""
    return any(isinstance(each, Assign | Nat | Notrack | Unknown) for rule in reachable(table, chain) for each in rule.statements)


def reachable(table: Table, chain: Chain) -> list[Rule]:
    """Return the rules of a chain and of every chain that it may call."""
    by_name = {each.name: each for each in table.chains}
    seen: dict[str, Chain] = {}
    waiting = [chain]
    while waiting:
        current = waiting.pop()
        if current.name in seen:
            continue
        seen[current.name] = current
        waiting += [by_name[each] for rule in current.rules for each in _targets(table, rule) if each in by_name]
    return [rule for each in seen.values() for rule in each.rules]


def _targets(table: Table, rule: Rule) -> list[str]:
    found = []
    for statement in rule.statements:
        if isinstance(statement, Jump):
            found.append(statement.target)
        elif isinstance(statement, VerdictMap):
            found += [each.target for _, each in map_elements(table, statement.map) or () if isinstance(each, Jump)]
    return found


def set_elements(table: Table, name: str) -> tuple[object, ...] | None:
    """Return what is in a named set, or None when it can't be known."""
    return next((each.contents for each in table.sets if each.name == name), None)


def holds_anything(table: Table | None, name: str) -> bool:
    """Whether a set's elements are left open; a question's own sets, which stand in no table, are."""
    return table is None or any(each.name == name and ANYTHING in each.flags for each in table.sets)


def timed_elements(table: Table, match: Match) -> tuple[object, ...] | None:
    """Return what time takes out of a match's set, element by element, and no packet puts in; None when it is no such set."""
    name = match.right.name if isinstance(match.right, SetRef) and match.op is Op.EQ else None
    found = next((each for each in table.sets if each.name == name), None)
    return None if found is None or found.contents is not None or found.flags & {"dynamic", ANYTHING} else found.elements


def map_elements(table: Table, source: object) -> tuple[tuple[object, object], ...] | None:
    """Return the entries of an anonymous or named map, or None when they can't be known."""
    elements = getattr(source, "elements", None)
    if elements is not None:
        return tuple(elements)
    name = getattr(source, "name", "")
    return next((each.contents for each in table.maps if each.name == name), None)


def device_listed(devices: str, name: str) -> bool:
    """Whether a netdev base chain hangs on this device."""
    return name in devices.split(",")


def called_place(here: str, target: str, *, goto: bool) -> str:
    """Return the place of a chain that is called from the statement at `here`, which names what is not known in it.

    A chain that is gone to has one place, from wherever it is gone to until somebody jumps: a packet comes there once, since no way
    leads back. So its limiters are the same for all of these, and it is worked out once.
    """
    if not goto:
        return f"{here}/{target}"
    chain = here.rpartition(":")[0]
    above, slash, _ = chain.rpartition("/")
    if slash and ":" not in above.rpartition("/")[2]:
        # The caller was gone to itself.
        chain = above
    return f"{chain}/{target}"
