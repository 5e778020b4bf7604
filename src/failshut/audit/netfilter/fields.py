"""What a packet has that rules can ask for: each field's width, its data type, and which packets have it.

A load names a field of this table. `requires` says what else the packet must be for the load to find something; a load that finds
nothing ends the rule, whatever the comparison (nft_do_chain: NFT_BREAK).
"""

from __future__ import annotations

from dataclasses import dataclass

from failshut.audit.netfilter.words import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE, NotUnderstoodError
from failshut.model.ruleset import Concat, Ct, Exthdr, Family, Fib, HeaderOption, Meta, Payload, Rt, Socket
from failshut.model.symbols import EXTENSIONS

IFNAME = "ifname"
GROUP = "cgroupsv2"
# Whether IPsec takes a packet that is on its way out.
ENCRYPTED = "rt ipsec"


@dataclass(frozen=True, slots=True)
class Load:
    """One field: its name in a packet, its width in bits, its data type, and (field, values) pairs that it needs."""

    name: str
    width: int
    kind: str = "number"
    requires: tuple[tuple[str, tuple[int, ...]], ...] = ()


_TRACKED = (("ct state", (2, 4, 8)),)
_V4, _V6 = ("nfproto", (2,)), ("nfproto", (10,))
_WHOLE = ("later fragment", (0,))
_ARP = ("ethertype", (0x0806,))

_META: dict[str, Load] = {
    "mark": Load("mark", 32),
    "l4proto": Load("l4proto", 8, "inet_proto", (("nfproto", (2, 10)),)),
    "nfproto": Load("nfproto", 8, "nf_proto"),
    "protocol": Load("ethertype", 16, "ether_type"),
    "iifname": Load("iifname", 16, IFNAME),
    "oifname": Load("oifname", 16, IFNAME),
    "iif": Load("iifname", 16, IFNAME),
    "oif": Load("oifname", 16, IFNAME),
    "skuid": Load("skuid", 32, "uid", (("socket", (1,)),)),
    "skgid": Load("skgid", 32, "gid", (("socket", (1,)),)),
    "cgroup": Load("cgroup", 32, "number", (("socket", (1,)),)),
    "length": Load("length", 32),
    "pkttype": Load("pkttype", 8, "pkt_type"),
    "rtclassid": Load("rtclassid", 32),
    "priority": Load("priority", 32),
    "cpu": Load("cpu", 32),
    "ibrname": Load("ibrname", 16, IFNAME),
    "obrname": Load("obrname", 16, IFNAME),
    "sdifname": Load("sdifname", 16, IFNAME),
    "ipsec": Load("ipsec", 1, "boolean"),
}
# What a device is, and no rule says of which it is true: what a packet that leaves by eth0 has of it can't be chosen.
_OF_DEVICES = {f"{side}{key}": key.removeprefix("if") for side in "io" for key in ("iftype", "ifgroup", "ifkind")}
_CT: dict[str, Load] = {
    "state": Load("ct state", 32, "ct_state"),
    "direction": Load("ct direction", 8, "ct_dir", _TRACKED),
    "status": Load("ct status", 32, "ct_status", _TRACKED),
    "mark": Load("ct mark", 32, "number", _TRACKED),
    "zone": Load("ct zone", 16, "number", _TRACKED),
    "id": Load("ct id", 32, "number", _TRACKED),
    "protocol": Load("l4proto", 8, "inet_proto", _TRACKED),
    "l3proto": Load("nfproto", 8, "nf_proto", _TRACKED),
}
# Of one direction of the connection; nft says `ct original ip saddr` or `ct original saddr`.
_CT_TUPLE = {
    "saddr": (0, "address"),
    "daddr": (0, "address"),
    "proto-src": (16, "inet_service"),
    "proto-dst": (16, "inet_service"),
    "ip saddr": (32, "ipv4_addr"),
    "ip daddr": (32, "ipv4_addr"),
    "ip6 saddr": (128, "ipv6_addr"),
    "ip6 daddr": (128, "ipv6_addr"),
}
_IP = {"dscp": 6, "ecn": 2, "length": 16, "id": 16, "frag-off": 16, "hdrlength": 4, "version": 4, "checksum": 16}
_IP6 = {"dscp": 6, "ecn": 2, "flowlabel": 20, "version": 4, "nexthdr": 8}
_KINDS = {"dscp": "dscp", "ecn": "ecn", "nexthdr": "inet_proto"}
_TRANSPORT: dict[str, tuple[int, dict[str, int]]] = {
    "tcp": (TCP, {"sequence": 32, "ackseq": 32, "doff": 4, "reserved": 4, "window": 16, "checksum": 16, "urgptr": 16}),
    "udp": (UDP, {"length": 16, "checksum": 16}),
    "udplite": (UDPLITE, {"checksum": 16, "csumcov": 16}),
    "sctp": (SCTP, {"vtag": 32, "checksum": 32}),
    "dccp": (DCCP, {"type": 4}),
    "esp": (50, {"spi": 32, "sequence": 32}),
    "ah": (51, {"spi": 32, "sequence": 32, "nexthdr": 8, "hdrlength": 8}),
    "comp": (108, {"nexthdr": 8, "flags": 8, "cpi": 16}),
    "icmp": (ICMP, {"id": 16, "sequence": 16, "mtu": 16, "gateway": 32, "checksum": 16}),
    "icmpv6": (ICMPV6, {"id": 16, "sequence": 16, "mtu": 32, "max-delay": 16, "checksum": 16, "parameter-problem": 32}),
    "igmp": (2, {"type": 8, "group": 32, "mrt": 8, "checksum": 16}),
}
_WITH_PORTS = frozenset({"tcp", "udp", "udplite", "sctp", "dccp"})
# Of which messages a field is; nft asks for the type too.
_ECHO = {"icmp": (0, 8), "icmpv6": (128, 129)}
_OF_TYPES = {(name, each): types for name, types in _ECHO.items() for each in ("id", "sequence")} | {("icmp", "gateway"): (5,)}
_VERSIONS = {"icmp": _V4, "igmp": _V4, "icmpv6": _V6}
_ARP_FIELDS = {
    "saddr ip": Load("arp saddr ip", 32, "ipv4_addr", (_ARP,)),
    "daddr ip": Load("arp daddr ip", 32, "ipv4_addr", (_ARP,)),
    "saddr ether": Load("arp saddr ether", 48, "ether_addr", (_ARP,)),
    "daddr ether": Load("arp daddr ether", 48, "ether_addr", (_ARP,)),
    "operation": Load("arp operation", 16, "arp_op", (_ARP,)),
    "htype": Load("arp htype", 16, "number", (_ARP,)),
    "ptype": Load("arp ptype", 16, "ether_type", (_ARP,)),
    "hlen": Load("arp hlen", 8, "number", (_ARP,)),
    "plen": Load("arp plen", 8, "number", (_ARP,)),
}
_ETHER = {"type": Load("ethertype", 16, "ether_type"), "saddr": Load("ether saddr", 48, "ether_addr")}
_ETHER["daddr"] = Load("ether daddr", 48, "ether_addr")


def load_of(left: object, right: object = None, family: Family | None = None) -> Load:  # noqa: C901, PLR0911, PLR0912 - one line a kind
    """Return the field that an expression loads, when it is compared with `right` in a table of this family.

    Raises NotUnderstoodError for what the table does not have.
    """
    if isinstance(left, Fib) and right in ("exists", "missing"):
        return Load(f"fib {' . '.join(left.flags)} found", 1, "boolean")
    if isinstance(left, Meta) and left.key in ("skuid", "skgid") and right in ("exists", "missing"):
        return Load("socket", 1, "boolean")
    match left:
        case Meta(key) if key in _META:
            return _META[key]
        case Meta(key) if key in _OF_DEVICES:
            raise NotUnderstoodError(f"which devices are of this {_OF_DEVICES[key]} is not in the rules")
        case Ct(key, "") if key in _CT:
            return _CT[key]
        case Ct(key, direction) if key in _CT_TUPLE:
            width, kind = _CT_TUPLE[key]
            if width:
                # Of another family's connection there is no such address (nft_ct_get_eval).
                version = {32: (_V4,), 128: (_V6,)}.get(width, ())
                return Load(f"ct {direction} {key}", width, kind, (*_TRACKED, *version))
        case Payload(protocol, field):
            return _payload(protocol, field, family)
        case Fib(flags, result):
            return _fib(flags, result)
        case Exthdr(name, ""):
            return Load(f"exthdr {name}", 1, "boolean", (_V6,))
        case Exthdr(name, field) if name != "frag" and field in EXTENSIONS.get(name, {}):
            # Of a header that the packet lacks there is nothing to compare. Whether a fragment's header is there when a rule asks
            # for it depends on who has put the packet together before.
            _, width = EXTENSIONS[name][field]
            return Load(f"exthdr {name} {field}", width, _KINDS.get(field, "number"), (_V6, (f"exthdr {name}", (1,))))
        case HeaderOption(protocol, name, ""):
            needs: tuple[tuple[str, tuple[int, ...]], ...] = (_V4,) if protocol == "ip" else (("l4proto", (TCP,)), _WHOLE)
            return Load(f"{protocol} option {name}", 1, "boolean", needs)
        case Socket(key, level):
            # Of a group's path the checksum: wide enough to tell all paths apart.
            width, kind = (256, GROUP) if key == "cgroupv2" else (32, "number")
            return Load(f"socket {key} {level}", width, kind, (("socket", (1,)),))
        case Rt("classid"):
            return _META["rtclassid"]
        case Rt("ipsec"):
            return Load(ENCRYPTED, 1, "boolean")
        case _:
            pass
    raise NotUnderstoodError(f"{_words(left)} is not computed")


def _words(left: object) -> str:
    """Return an expression as rules say it, near enough to be found again."""
    kind = {"HeaderOption": "", "RawPayload": "@"}.get(type(left).__name__, type(left).__name__.lower())
    said = (getattr(left, each) for each in getattr(left, "__dataclass_fields__", ()))
    return " ".join((kind, *(" . ".join(each) if isinstance(each, tuple) else str(each) for each in said if each != ""))).strip()


def loads_of(left: object) -> tuple[Load, ...]:
    """Return the fields that a set's key loads, in order. Raises NotUnderstoodError."""
    return tuple(load_of(each) for each in (left.parts if isinstance(left, Concat) else (left,)))


def membership(left: object, name: str) -> str:
    """Return the field that says whether a packet's key is in a set of which nothing is known. Raises NotUnderstoodError."""
    return f"in {name} by {' . '.join(each.name for each in loads_of(left))}"


def _payload(protocol: str, field: str, family: Family | None) -> Load:
    match protocol:
        case "ip":
            return _ip(field)
        case "ip6":
            return _ip6(field)
        case "th" if field in ("sport", "dport"):
            # nft reads two bytes of the transport header, whatever the protocol is.
            return Load(field, 16, "inet_service", (("nfproto", (2, 10)), _WHOLE))
        case "ether" if field in _ETHER:
            return _ETHER[field]
        case "arp" if field in _ARP_FIELDS:
            return _ARP_FIELDS[field]
        case _ if protocol in _TRANSPORT:
            return _transport(protocol, field, family)
    raise NotUnderstoodError(f"{protocol} {field} is not computed")


def _ip(field: str) -> Load:
    match field:
        case "saddr" | "daddr":
            return Load(f"ip {field}", 32, "ipv4_addr", (_V4,))
        case "protocol":
            return Load("l4proto", 8, "inet_proto", (_V4,))
        case "ttl":
            return Load("hop limit", 8, "number", (_V4,))
        case _ if field in _IP:
            return Load(f"ip {field}", _IP[field], _KINDS.get(field, "number"), (_V4,))
    raise NotUnderstoodError(f"ip {field} is not computed")


def _ip6(field: str) -> Load:
    match field:
        case "saddr" | "daddr":
            return Load(f"ip6 {field}", 128, "ipv6_addr", (_V6,))
        case "hoplimit":
            return Load("hop limit", 8, "number", (_V6,))
        case "length":
            return Load("ip6 length", 16, "number", (_V6,))
        case _ if field in _IP6:
            return Load(f"ip6 {field}", _IP6[field], _KINDS.get(field, "number"), (_V6,))
    raise NotUnderstoodError(f"ip6 {field} is not computed")


def _transport(protocol: str, field: str, family: Family | None) -> Load:
    number, others = _TRANSPORT[protocol]
    # nft asks for the protocol's own IP version where a table may see both.
    version = ("nfproto", (2, 10)) if family in (Family.IP, Family.IP6) else _VERSIONS.get(protocol, ("nfproto", (2, 10)))
    needs = (version, ("l4proto", (number,)), _WHOLE)
    if protocol in _WITH_PORTS and field in ("sport", "dport"):
        return Load(field, 16, "inet_service", needs)
    if protocol == "tcp" and field == "flags":
        return Load("tcp flags", 8, "tcp_flag", needs)
    if protocol in ("icmp", "icmpv6") and field in ("type", "code"):
        return Load(f"icmp {field}", 8, f"{protocol}_{field}", needs)
    if field in others:
        types = _OF_TYPES.get((protocol, field))
        return Load(f"{protocol} {field}", others[field], "number", (*needs, ("icmp type", types)) if types else needs)
    raise NotUnderstoodError(f"{protocol} {field} is not computed")


def _fib(flags: tuple[str, ...], result: str) -> Load:
    name = "fib " + " . ".join(flags) + " " + result
    match result:
        case "type":
            return Load(name, 32, "fib_addrtype")
        case "oif" | "oifname":
            return Load(name, 16, IFNAME)
        case _:
            return Load(name, 1, "boolean")
