"""What each allowance of a policy adds to the lock: its own packets, and no other.

The lock is compiled with the allowance and without it, and the two texts are compared, packet by packet, for all packets. What the
allowance is, the audit's own predicates say, which know nothing of the compiler.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from audit_mutants import mutants
from failshut.audit.difference import opened, opened_beyond
from failshut.audit.world import World
from failshut.audit.world.allowed import world_of
from failshut.audit.world.granted import Granted, as_anything
from failshut.emit.nft import emit
from failshut.lower import lower
from failshut.lower.lock import rerouting_rules
from failshut.model.host import HostFacts
from failshut.model.pin import Pin
from failshut.model.policy import Forward, ForwardMode, Policy
from failshut.model.ruleset import Family, Ruleset, Table
from failshut.read.nft.text import read_text
from golden_cases import CASES, load_case

# A mutant of a chain that says what may leave: `family chain: widen ...`.
DECIDES = re.compile(r"inet (underlay|output|outside-programs|outside-prefix|portal-programs): widen")
# What comes with any allowance that asks names is in every lock here, so that it is no allowance's own.
NAMES = (Pin("vpn.example.net", (ip_address("203.0.113.10"),)),)


@dataclass(frozen=True)
class Allowance:
    """One allowance of a golden policy: the policy without it, and one that has nothing else; the comments of its rules."""

    case: Path
    name: str
    without: Policy
    alone: Policy
    comments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.case.name}-{self.name}"


def bare(policy: Policy) -> Policy:
    """Return a policy with its tunnels, and nothing else."""
    return Policy(policy.tunnels, dhcp=False, ndp=False, forward=replace(policy.forward, mode=ForwardMode.BLOCK, clients=()))


def allowances(case: Path) -> Iterator[Allowance]:
    policy, facts = load_case(case)
    base = bare(policy)

    def made(name: str, without: Policy, alone: Policy, *comments: str) -> Allowance:
        return Allowance(case, name, without, alone, comments or (name,))

    # Every lock has these two; a few are enough.
    if case.name in ("minimal", "two_uplinks_and_services", "tailscale"):
        yield made("dhcp", replace(policy, dhcp=False), replace(base, dhcp=True), "allow:dhcp")
        yield made("ndp", replace(policy, ndp=False), replace(base, ndp=True), "allow:ndp", "allow:mld")
    if policy.lan:
        names = ("allow:lan", *(f"allow:{each}" for each in policy.lan.multicast))
        yield made("lan", replace(policy, lan=None), replace(base, lan=policy.lan), *names)
    # Without a device there is none that a session could have come in on.
    for each in policy.inbound if facts.underlay else ():
        others = tuple(other for other in policy.inbound if other is not each)
        yield made(f"inbound:{each.name}", replace(policy, inbound=others), replace(base, inbound=(each,)))
    for pin in policy.outbound:
        rest = tuple(other for other in policy.outbound if other is not pin)
        yield made(f"outbound:{pin.name}", replace(policy, outbound=rest), replace(base, outbound=(pin,)))
    if policy.tailscale:
        alone = replace(base, tailscale=policy.tailscale)
        yield made("tailscale", replace(policy, tailscale=None), alone, "allow:tailscale")
    if policy.outside:
        alone = replace(base, outside=policy.outside)
        yield made("outside", replace(policy, outside=None), alone, "outside", "outside:dns", "outside:prefix")
    if policy.portal:
        alone = replace(base, portal=True)
        yield made("portal", replace(policy, portal=False), alone, "portal", "portal:dns", "portal:web")
    if policy.forward.served_clients:
        blocked = replace(policy, forward=Forward(ForwardMode.BLOCK, policy.forward.bridges))
        yield made("forward", blocked, replace(base, forward=policy.forward), "forward:replies", "forward:site")


EVERY = [each for case in CASES for each in allowances(case)]
by_allowance = pytest.mark.parametrize("allowance", EVERY, ids=str)


def facts_of(allowance: Allowance) -> HostFacts:
    return load_case(allowance.case)[1]


def lock(policy: Policy, facts: HostFacts) -> Ruleset:
    """Compile a policy, write it, read it back; whatever may be in its sets is in them.

    The choke point alone is compared: without the rules that refuse early, so that programs fail fast, and without translation.
    Where a packet's source is another at the choke point, one allowance's packet may become another's.
    """
    policy = replace(policy, pins=NAMES)
    marking = tuple(rerouting_rules(policy, facts))

    def compared(table: Table) -> Table:
        chains = (replace(each, rules=marking) if each.name == "output" else each for each in table.chains)
        return replace(table, chains=tuple(each for each in chains if each.name != "source-nat"))

    compiled = lower(policy, facts).tables
    reading = read_text(emit(Ruleset(tuple(compared(each) if each.family is Family.INET else each for each in compiled))), "lock")
    assert reading.is_whole
    return as_anything(reading.ruleset, policy)


def own_packets(allowance: Allowance, facts: HostFacts) -> World:
    """What this allowance is, with the tunnels, which have to be somewhere; in the world of the whole policy."""
    whole = world_of(load_case(allowance.case)[0], facts)
    return replace(world_of(allowance.alone, facts, open_now=Granted()), tunnels=whole.tunnels)


@by_allowance
def test_an_allowance_opens_its_own_packets_and_no_other(allowance):
    """Something is open that was not; nothing of it lies outside of the allowance; taking it away opens nothing."""
    facts = facts_of(allowance)
    without, whole = lock(allowance.without, facts), lock(load_case(allowance.case)[0], facts)
    world = own_packets(allowance, facts)

    assert opened(without, whole, world)
    assert not opened_beyond(without, whole, world)


@by_allowance
def test_a_rule_of_an_allowance_that_asks_for_less_is_noticed(allowance):
    """The control: of its rules, each with a condition less in turn, at least one opens more than the allowance, and is noticed."""
    facts = facts_of(allowance)
    without, whole = lock(allowance.without, facts), lock(load_case(allowance.case)[0], facts)
    world = own_packets(allowance, facts)
    mine = tuple(f'comment "{each}"' for each in allowance.comments)
    widened = [(what, mutant) for what, mutant in mutants(whole) if DECIDES.match(what) and any(each in what for each in mine)]
    noticed = [what for what, mutant in widened[:6] if opened_beyond(without, mutant, world)]

    assert noticed
