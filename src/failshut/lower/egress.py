"""The layer under IP: a `netdev` egress chain on each underlay device.

`inet` hooks never see AF_PACKET, macvlan children or bridged guests. Here nothing passes but what the choke point stamped, ARP,
EAPOL, spanning tree, link aggregation and a DHCP client's broadcast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

from failshut.lower.link import BROADCAST, DHCP_RATE
from failshut.lower.lock import tunnel_addresses
from failshut.lower.rules import META_MARK, SKUID, any_of, is_, rule
from failshut.model.host import HostFacts
from failshut.model.lock import LOCK_NAME
from failshut.model.policy import Policy
from failshut.model.ruleset import (
    AnySet,
    Assign,
    Base,
    Chain,
    ChainType,
    Counter,
    Family,
    Hook,
    Jump,
    Limit,
    Match,
    Meta,
    Op,
    Payload,
    Rule,
    Ruleset,
    Table,
    Verdict,
)
from failshut.model.units import InterfaceName

_ETHER_TYPE = Payload("ether", "type")
# IEEE 802.1X and pre-authentication (802.11i): without them no Wi-Fi with a password.
_EAPOL = AnySet((0x888E, 0x88C7))
COUNTER = "under-ip"
# Stands for a device that nobody knows yet, in the text from which its chain is made when it comes. The loader knows the name.
LATER = InterfaceName("LATER-DEVICE")
# In bytes, with the Ethernet header: an ARP packet has 42, padded 60. More would be a program's cargo.
_SHORT = Match(Meta("length"), 64, Op.LE)
# Spanning tree (IEEE 802.1D) and link aggregation (802.1AX): to groups that a bridge which speaks them keeps to itself; without
# them a bridge over the device loops and a bond falls apart.
_LINK_CONTROL = (
    # A length where other frames have a type: nothing that IP would be read from.
    ("stp", "01:80:c2:00:00:00", Match(_ETHER_TYPE, 0x0600, Op.LT)),
    ("lacp", "01:80:c2:00:00:02", is_(_ETHER_TYPE, 0x8809)),
)
_SHORT_CONTROL = Match(Meta("length"), 128, Op.LE)
_CONTROL_RATE = Limit(rate=10, per="second", burst=10)


def egress_table(policy: Policy, facts: HostFacts) -> Table | None:
    """Return the netdev table, None when the kernel has no egress hook or there is no device to hook."""
    # A tunnel that carries another's transport is held as an underlay is: nothing but that enters it, on whatever floor.
    running = sorted(each for each in policy.transit if each in facts.tunnels and facts.tunnels[each].running)
    held = (*facts.underlay, *running)
    if not facts.egress or not held:
        return None
    devices = tuple(_device_chain(device, facts) for device in held)
    admit = Chain("admit", tuple(_admit(policy, facts)))
    return Table(Family.NETDEV, LOCK_NAME, (admit, *devices), counters=(COUNTER,))


def with_later(ruleset: Ruleset) -> Ruleset:
    """Return the ruleset with one more chain in each table under IP, for `LATER`: the others' like, under another name."""
    return Ruleset(tuple(_with_later(each) for each in ruleset.tables))


def _with_later(table: Table) -> Table:
    for chain in table.chains:
        if chain.base and chain.base.device:
            later = replace(chain, name=chain_name(LATER), base=replace(chain.base, device=LATER))
            return replace(table, chains=(*table.chains, later))
    return table


def chain_name(device: InterfaceName) -> str:
    """Return a chain name that nft accepts for any device name: what is not a letter, digit, '.', '_' or '-' is spelled in hex."""
    plain = "".join(each if each.isascii() and (each.isalnum() or each in "._-") else f"/{ord(each):x}/" for each in device)
    return f"egress-{plain}"


def _device_chain(device: InterfaceName, facts: HostFacts) -> Chain:
    base = Base(ChainType.FILTER, Hook.EGRESS, 0, Verdict.DROP, device)
    # Read before the jump: all that the choke point allowed ends here.
    stamped = rule("stamped", is_(META_MARK, facts.stamp), Verdict.ACCEPT)
    judged = (*_link_control(facts), rule("admit", Jump("admit")), rule("shut", Verdict.DROP))
    return Chain(chain_name(device), (stamped, *judged), base)


def _link_control(facts: HostFacts) -> Iterator[Rule]:
    """Yield what a bridge or a bond says to its neighbour, with a limit for each device.

    Nothing else can sit on a device that is a port of either, so that a container beside it can't use its limit up.
    """
    for name, group, kind in _LINK_CONTROL:
        to_group = is_(Payload("ether", "daddr"), group)
        stamp = Assign(META_MARK, facts.stamp)
        yield rule(name, to_group, kind, _SHORT_CONTROL, _CONTROL_RATE, stamp, Verdict.ACCEPT)


def _admit(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    own = [each for each in tunnel_addresses(policy, facts) if isinstance(each, IPv4Address)]
    if own:
        yield rule("tunnel-address", is_(Payload("arp", "saddr ip"), any_of(own)), Verdict.DROP)
    # Stamped on their way, so that the device below a VLAN or a bridge knows them again under its own header.
    stamp = Assign(META_MARK, facts.stamp)
    yield rule("arp", is_(_ETHER_TYPE, "arp"), _SHORT, stamp, Verdict.ACCEPT)
    # A supplicant is root's, in this network namespace; a container's or a guest's frames match no user here.
    yield rule("eapol", is_(_ETHER_TYPE, _EAPOL), is_(SKUID, 0), stamp, Verdict.ACCEPT)
    if policy.dhcp:
        # A client without an address sends below IP; its unicast renewal goes through a socket and so the choke point.
        yield rule(
            "allow:dhcp",
            is_(Payload("ether", "daddr"), "ff:ff:ff:ff:ff:ff"),
            is_(Payload("ip", "daddr"), BROADCAST),
            is_(Payload("udp", "sport"), 68),
            is_(Payload("udp", "dport"), 67),
            is_(SKUID, any_of(facts.dhcp_uids)),
            DHCP_RATE,
            stamp,
            Verdict.ACCEPT,
        )
    yield rule("count", Counter(COUNTER))
