"""The named sets that are filled while the lock stands: allowances with a deadline, programs known by their control group.

The boot file declares them empty: a control group that does not exist would refuse the whole load, and a deadline does not outlive
the machine. The kernel takes each element out when its time is up; nobody needs to be alive for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.needs import asks_names
from failshut.lower.rules import FAMILIES, L4PROTO, SKUID, is_
from failshut.model.host import HostFacts
from failshut.model.policy import Outbound, Policy
from failshut.model.ruleset import Concat, Expression, Match, Meta, NamedSet, Payload, SetRef
from failshut.model.timed import (
    CANDIDATES,
    LOGGING,
    OUTSIDE_PROGRAMS,
    PORTAL_DNS,
    PORTAL_PROGRAMS,
    PROBE,
    TIMED,
    TIMED_LAN,
    TIMED_TO,
    TIMED_USER,
    gate_name,
    programs_name,
)

_SITE = ("inet_proto", "inet_service")


def programs_of(pin: Outbound) -> str:
    """Return the set that holds a pin's control group."""
    return programs_name(pin.name)


def gate(allowance: str, *, on_demand: bool) -> tuple[Match, ...]:
    """Return the match that is true while `allowance` is open; none for one that always is."""
    return (is_(Meta("nfproto"), SetRef(gate_name(allowance))),) if on_demand else ()


def site(family: str, *more: Expression) -> Concat:
    """Return the key `daddr . protocol . port`, with what else belongs to it."""
    return Concat((Payload(family, "daddr"), L4PROTO, Payload("th", "dport"), *more))


def sent_by(name: str) -> Iterator[Match]:
    """Yield the matches on packets from one of the sites in a pair of sets, one for each family."""
    for version, (family, _) in FAMILIES.items():
        yield is_(Concat((Payload(family, "saddr"), L4PROTO, Payload("th", "sport"))), SetRef(f"{name}{version}"))


def timed_sets(policy: Policy, facts: HostFacts) -> Iterator[NamedSet]:
    """Yield every set that is filled while the lock stands."""
    for name in (LOGGING, *((TIMED,) if facts.opened else ()), *map(gate_name, gated(policy))):
        yield _timed(name, ("nf_proto",))
    for version, (_, address) in FAMILIES.items():
        if facts.opened:
            yield _timed(f"{TIMED_LAN}{version}", (address,), interval=True)
            yield _timed(f"{TIMED_TO}{version}", (address, *_SITE), interval=True)
            # No intervals: nft 1.0.6 writes a user's number into one with its bytes turned round, and never finds it again.
            yield _timed(f"{TIMED_USER}{version}", (address, *_SITE, "uid"))
        if asks_names(policy):
            yield _timed(f"{CANDIDATES}{version}", (address, *_SITE))
            yield _timed(f"{PROBE}{version}", (address, *_SITE))
        if policy.portal:
            yield _timed(f"{PORTAL_DNS}{version}", (address,))
    if policy.portal:
        yield _timed(PORTAL_PROGRAMS, ("cgroupsv2",))
    for name, _ in known_programs(policy):
        yield NamedSet(name, ("cgroupsv2",))


def known_programs(policy: Policy) -> tuple[tuple[str, str], ...]:
    """Return what is put into the sets of programs as soon as it is there: pairs of a set and a control group's path."""
    outside = ((OUTSIDE_PROGRAMS, policy.outside.cgroup),) if policy.outside else ()
    return (*outside, *((programs_of(pin), pin.cgroup) for pin in policy.outbound if pin.cgroup))


def gated(policy: Policy) -> tuple[str, ...]:
    """Return the names of the policy's allowances that are open on demand only."""
    lan = ("lan",) if policy.lan and policy.lan.on_demand else ()
    services = (each.name for each in policy.inbound if each.on_demand)
    return (*lan, *services, *(each.name for each in policy.outbound if each.on_demand))


def by_user(family: str) -> Concat:
    """Return the key of a site with the user who may reach it."""
    return site(family, SKUID)


def _timed(name: str, key: tuple[str, ...], *, interval: bool = False) -> NamedSet:
    return NamedSet(name, key, frozenset({"interval", "timeout"} if interval else {"timeout"}))
