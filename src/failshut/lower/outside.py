"""What stays outside the tunnel: programs known by their control group, and what is open for a time (docs/security.md, "outside").

`socket cgroupv2` can be asked at output alone, so that is where it is decided: the packet gets a mark that the choke point
trusts, and is routed anew by it. Nothing else can bring that mark along: it is taken off first. The socket had chosen the tunnel's
address for its source, so the packet is masqueraded.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.needs import asks_names, is_marked, marks_always, marks_outside
from failshut.lower.prefixes import Found, bound_for
from failshut.lower.rules import (
    ALLOWED,
    DNS_PORTS,
    FAMILIES,
    L4PROTO,
    LOOKUP_PORTS,
    META_MARK,
    OIFNAME,
    SKUID,
    address_matches,
    any_of,
    is_,
    is_not,
    rule,
    to_ports,
)
from failshut.lower.sets import by_user, gate, programs_of, sent_by, site
from failshut.model.host import HostFacts
from failshut.model.marks import ARRIVAL, ARRIVED_OUTSIDE, OUTSIDE_ZONE
from failshut.model.policy import PORTAL_SLICE, Outbound, Policy, slice_path
from failshut.model.ruleset import (
    AnySet,
    Assign,
    Binary,
    BitOp,
    Chain,
    Ct,
    Jump,
    Match,
    Meta,
    Nat,
    NatKind,
    Payload,
    Rule,
    SetRef,
    Socket,
    Verdict,
    masked,
)
from failshut.model.timed import OUTSIDE_PROGRAMS, PORTAL_DNS, PORTAL_PROGRAMS, PROBE, TIMED, TIMED_LAN, TIMED_TO, TIMED_USER

_CT_MARK = Ct("mark")
_TRANSPORT = AnySet(("tcp", "udp"))
_PREFIX = "outside-prefix"
_MARKED = Jump("outside-mark", goto=True)
# What is open for a time is called by the machine: it answers nobody there, for the tunnel's server can forge that address.
_NO_ANSWER = rule("timed", is_(Ct("direction"), "reply"), Verdict.RETURN)


def outside_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the rules at output that say which packets get the mark."""
    if not marks_outside(policy, facts):
        return
    yield rule("outside:forged", is_(META_MARK, facts.outside), Assign(META_MARK, 0))
    if facts.opened:
        yield rule("timed", is_(Meta("nfproto"), SetRef(TIMED)), Jump("timed"))
    if not marks_always(policy):
        return
    yield rule("loopback", is_(Meta("oif"), "lo"), Verdict.ACCEPT)
    for comment, match, chain in _slices(policy):
        yield rule(comment, match, Jump(chain))
    for pin in policy.outbound:
        if is_marked(pin):
            for matches in pin_matches(pin):
                yield rule(f"outbound:{pin.name}", *gate(pin.name, on_demand=pin.on_demand), *_of_programs(pin), *matches, _MARKED)


def zone_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the rules before connection tracking, by which a program outside never shares a connection with one inside."""
    programs = tuple(_all_programs(policy))
    if programs:
        yield rule("loopback", is_(Meta("oif"), "lo"), Verdict.ACCEPT)
    for match in programs:
        yield rule("outside:zone", match, Assign(Ct("zone", "original"), OUTSIDE_ZONE), Verdict.ACCEPT)


def _slices(policy: Policy) -> Iterator[tuple[str, Match, str]]:
    """Yield the slices whose programs are outside: the rules' comment, the match, and the set, whose name the chain has too."""
    if policy.outside:
        yield "outside", _programs(policy.outside.cgroup, OUTSIDE_PROGRAMS), OUTSIDE_PROGRAMS
    if policy.portal:
        yield "portal", _programs(slice_path(PORTAL_SLICE), PORTAL_PROGRAMS), PORTAL_PROGRAMS


def _all_programs(policy: Policy) -> Iterator[Match]:
    yield from (match for _, match, _ in _slices(policy))
    for pin in policy.outbound:
        yield from _of_programs(pin)


def outside_chains(policy: Policy, facts: HostFacts) -> Iterator[Chain]:
    """Yield the chains that these rules jump to."""
    if not marks_outside(policy, facts):
        return
    if facts.opened:
        yield Chain("timed", tuple(_timed()))
    if policy.outside:
        yield Chain(OUTSIDE_PROGRAMS, tuple(_outside_programs(policy)))
    if policy.portal:
        yield Chain(PORTAL_PROGRAMS, tuple(_portal_programs()))
    # All bits of the field, so that nothing has to be cleared first.
    arrived = Binary(BitOp.OR, _CT_MARK, int(ARRIVED_OUTSIDE))
    yield Chain("outside-mark", (rule("outside", Assign(_CT_MARK, arrived), Assign(META_MARK, facts.outside), Verdict.ACCEPT),))


def outside_return_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the prerouting rules for answers: a strict reverse-path filter would look their sender up in the tunnel's table."""
    if marks_outside(policy, facts):
        outside = is_(masked(_CT_MARK, ARRIVAL), int(ARRIVED_OUTSIDE))
        yield rule("outside:reply", is_(Ct("direction"), "reply"), outside, Assign(META_MARK, facts.outside))
    if asks_names(policy):
        for asked in sent_by(PROBE):
            yield rule("probe:reply", asked, Assign(META_MARK, facts.probe))


def outside_masquerade_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the nat rule that gives a marked packet the address of the device it leaves by."""
    if marks_outside(policy, facts):
        elsewhere = is_not(OIFNAME, AnySet(("lo", *(str(each) for each in policy.interfaces))))
        yield rule("outside", is_(META_MARK, facts.outside), elsewhere, Nat(NatKind.MASQUERADE))


def outside_underlay_rules(policy: Policy, facts: HostFacts, prefixes: Found) -> Iterator[Rule]:
    """Yield the choke point's rules: our own probe, what is open for a time, marked packets, prefixes that stay outside."""
    if asks_names(policy):
        root = is_(SKUID, 0)
        for version, (family, _) in FAMILIES.items():
            yield rule("probe", is_(META_MARK, facts.probe), root, is_(site(family), SetRef(f"{PROBE}{version}")), ALLOWED)
    if facts.opened:
        yield rule("timed", is_(Meta("nfproto"), SetRef(TIMED)), Jump("timed-underlay"))
    if marks_outside(policy, facts):
        yield rule("outside", is_(META_MARK, facts.outside), ALLOWED)
    yield from prefixes.rules


def timed_underlay_chain(facts: HostFacts) -> Iterator[Chain]:
    """Yield the choke point's chain for what is open for a time, also for packets that were not routed anew."""
    if facts.opened:
        yield Chain("timed-underlay", tuple(_timed_underlay()))


def _timed_underlay() -> Iterator[Rule]:
    yield _NO_ANSWER
    for version, (family, _) in FAMILIES.items():
        there = is_(Payload(family, "daddr"), SetRef(f"{TIMED_LAN}{version}"))
        yield rule("dns", there, *to_ports(LOOKUP_PORTS), Verdict.RETURN)
        yield rule("timed:lan", there, Jump("allowed-on-link", goto=True))
        yield rule("timed:to", is_(site(family), SetRef(f"{TIMED_TO}{version}")), ALLOWED)
        yield rule("timed:to", is_(by_user(family), SetRef(f"{TIMED_USER}{version}")), ALLOWED)


def pin_matches(pin: Outbound) -> Iterator[tuple[Match, ...]]:
    """Yield the matches of a pinned exception, a tuple for each family that occurs.

    It is called by the machine, and answered nothing: the tunnel's server can forge its address and port.
    """
    owner = (is_(SKUID, pin.uid),) if pin.uid is not None else ()
    for address in address_matches("daddr", pin.to):
        yield (is_(Payload(pin.protocol, "dport"), int(pin.port)), *owner, address, is_(Ct("direction"), "original"))


def _of_programs(pin: Outbound) -> tuple[Match, ...]:
    return (_programs(pin.cgroup, programs_of(pin)),) if pin.cgroup else ()


def _programs(cgroup: str, name: str) -> Match:
    return is_(Socket("cgroupv2", len(cgroup.split("/"))), SetRef(name))


def _timed() -> Iterator[Rule]:
    yield rule("loopback", is_(Meta("oif"), "lo"), Verdict.RETURN)
    yield _NO_ANSWER
    for version, (family, _) in FAMILIES.items():
        there = is_(Payload(family, "daddr"), SetRef(f"{TIMED_LAN}{version}"))
        yield rule("timed:to", is_(site(family), SetRef(f"{TIMED_TO}{version}")), _MARKED)
        yield rule("timed:to", is_(by_user(family), SetRef(f"{TIMED_USER}{version}")), _MARKED)
        yield rule("dns", there, *to_ports(LOOKUP_PORTS), Verdict.RETURN)
        yield rule("timed:lan", there, _MARKED)


def _outside_programs(policy: Policy) -> Iterator[Rule]:
    """Yield what programs of the slice may: everything but look-ups, which go through the tunnel unless a resolver was named."""
    resolvers = policy.outside.dns if policy.outside else ()
    for version, (family, _) in FAMILIES.items():
        named = [each for each in resolvers if each.version == int(version)]
        if named:
            asked = is_(Payload(family, "daddr"), any_of(named))
            yield rule("outside:dns", asked, is_(L4PROTO, _TRANSPORT), is_(Payload("th", "dport"), AnySet(DNS_PORTS)), _MARKED)
    yield rule("dns", *to_ports(DNS_PORTS), Verdict.RETURN)
    yield rule("outside", _MARKED)


def _portal_programs() -> Iterator[Rule]:
    """Yield what one throw-away browser needs to sign in: the network's own resolver, and the web."""
    for version, (family, _) in FAMILIES.items():
        resolver = is_(Payload(family, "daddr"), SetRef(f"{PORTAL_DNS}{version}"))
        yield rule("portal:dns", is_(L4PROTO, _TRANSPORT), is_(Payload("th", "dport"), 53), resolver, _MARKED)
    yield rule("portal:web", is_(Payload("tcp", "dport"), AnySet((80, 443))), _MARKED)


def outside_prefix_chains(prefixes: Found) -> Iterator[Chain]:
    """Yield the chains for what is bound for a prefix that stays outside: everything but look-ups of names may go."""
    if prefixes.rules:
        yield Chain(_PREFIX, (rule("dns", *to_ports(DNS_PORTS), Verdict.RETURN), rule("outside:prefix", ALLOWED)))
        yield from prefixes.chains


def outside_prefixes(policy: Policy) -> Found:
    """Return how what is bound for a prefix that stays outside is found."""
    return bound_for(policy.outside.prefixes if policy.outside else (), _PREFIX, "outside:prefix")
