"""What a question takes for granted: which devices are tunnels, where the endpoints are, what the local network is.

A `World` is read off a ruleset by `infer`, or off a policy by `allowed`, with what is `granted` for a time; `facts` hold in all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network

from failshut.audit.predicate import Not, Predicate, Some, among, either
from failshut.model.ruleset import Meta, Payload, Scalar
from failshut.model.units import Endpoint, Prefix

LOOPBACK = "lo"
IIF, OIF = Meta("iifname"), Meta("oifname")
SADDR = {4: Payload("ip", "saddr"), 6: Payload("ip6", "saddr")}
DADDR = {4: Payload("ip", "daddr"), 6: Payload("ip6", "daddr")}

# Addresses that are not the internet (RFC 6890): this link, this site, this machine, groups.
NEAR: dict[int, tuple[Prefix, ...]] = {
    4: tuple(
        ip_network(each)
        for each in (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
            *("224.0.0.0/4", "240.0.0.0/4"),
        )
    ),
    6: tuple(ip_network(each) for each in ("::/127", "fc00::/7", "fe80::/10", "ff00::/8")),
}


# Addresses of this machine alone: a program that is tied to a device can send there, and nobody answers.
OWN: dict[int, tuple[Prefix, ...]] = {4: (ip_network("127.0.0.0/8"),), 6: (ip_network("::/127"),)}


@dataclass(frozen=True, slots=True)
class World:
    """What the rules are judged against.

    `tunnels` are names as nft takes them (a last `*` is any ending). `named` are the addresses that the rules name and let packets
    out to: pinned exceptions of the ruleset's author. `allowed`, by family, is what a policy allows to leave on the underlay; with
    one the audit is strict: every other packet is a leak, whoever sent it.
    """

    tunnels: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    # Hosts that the rules open whole: VPN servers, by all that the rules say, and on which port nobody knows.
    servers: tuple[Prefix, ...] = ()
    lan: tuple[Prefix, ...] = ()
    named: tuple[Prefix, ...] = ()
    underlay: tuple[str, ...] = ("eth0",)
    # Bridges of this machine's own guests: nothing of theirs leads outside.
    inside: tuple[str, ...] = ()
    # But for those of them that have a port to the outside.
    uplinked: tuple[str, ...] = ()
    allowed: dict[int, Predicate] | None = None
    # Tunnels that carry another's transport and nothing else; by family, what that is.
    transit: tuple[str, ...] = ()
    carried: dict[int, Predicate] = field(default_factory=dict)
    # Who a program is that nothing was promised to: this user, and at these levels of the hierarchy in no group that has a name.
    uid: int = 1000
    gid: int = 1000
    # As what that user was said, where only its packets are asked about, and not what others send, nor what is forwarded.
    alone: str = ""
    # The control group in question, with the same end: a path, or net_cls's number.
    cgroup: str = ""
    levels: tuple[int, ...] = ()
    # The users, and after a colon the groups, of whom alone the rules refuse something: nobody else is held by them.
    confined: tuple[str, ...] = ()
    # In words, what tells their packets, where it is a control group or a mark.
    held: tuple[str, ...] = ()
    frames: Predicate = field(default_factory=Some)
    forwarded: Predicate = field(default_factory=Some)
    # Which of the fields above nobody said and no rule tells.
    assumed: tuple[str, ...] = ()

    @property
    def is_strict(self) -> bool:
        """Whether a policy says what may leave."""
        return self.allowed is not None

    @property
    def is_of_one(self) -> bool:
        """Whether one sender's packets are asked about, and nothing else."""
        return bool(self.alone or self.cgroup)


def on_underlay(world: World) -> Predicate:
    """Return that the packet leaves on a device that is neither loopback nor a tunnel."""
    return either(among(OIF, world.uplinked), Not(among(OIF, (LOOPBACK, *world.tunnels, *world.inside))))


def to_any(prefixes: tuple[Prefix, ...], family: int) -> Predicate:
    """Return that the packet's last destination lies in one of these."""
    fitting: tuple[Scalar, ...] = tuple(each for each in prefixes if each.version == family)
    return among(DADDR[family], fitting)


def endpoint_hosts(world: World) -> tuple[Prefix, ...]:
    """Return the endpoints' and servers' addresses as prefixes."""
    return tuple(dict.fromkeys((*(ip_network(str(each.address)) for each in world.endpoints), *world.servers)))


def endpoint_words(world: World) -> tuple[str, ...]:
    """Return where the tunnels lead to, each in words; none when nobody knows."""
    return (*map(str, world.endpoints), *(f"{each.network_address} (any port)" for each in world.servers))
