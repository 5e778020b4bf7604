"""What nft knows of every field: its type, its width in bits, and the words that stand for numbers of that type.

Source: `nft describe` of nft 1.0.6. Of several words for one number the first is the one that nft lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import assert_never

from failshut.model.ruleset import (
    Binary,
    Concat,
    Ct,
    Expression,
    Exthdr,
    Fib,
    HeaderOption,
    Lookup,
    Meta,
    Opaque,
    Payload,
    RawPayload,
    Rt,
    Socket,
)
from failshut.model.units import PROTOCOL_NAMES

INTEGER = "integer"
# Types whose values are sets of bits: without an operator nft tests whether any of the bits is set.
FLAG_TYPES = frozenset({"ct_state", "ct_status", "ct_event", "ct_label", "tcp_flag"})

# Bits; 0 is text of 16 characters at most.
WIDTHS: Mapping[str, int] = {
    "ether_addr": 48, "ether_type": 16, "arp_op": 16, "ipv4_addr": 32, "ipv6_addr": 128, "dscp": 6, "ecn": 2, "inet_proto": 8,
    "icmp_type": 8, "icmp_code": 8, "icmpv6_type": 8, "icmpv6_code": 8, "icmpx_code": 8, "igmp_type": 8, "inet_service": 16,
    "tcp_flag": 8, "dccp_pkttype": 4, "mh_type": 8, "classid": 32, "mark": 32, "iface_index": 32, "ifname": 0, "iface_type": 16,
    "uid": 32, "gid": 32, "realm": 32, "nf_proto": 8, "pkt_type": 8, "devgroup": 32, "boolean": 8, "time": 64, "day": 8, "hour": 32,
    "ct_state": 32, "ct_dir": 8, "ct_status": 32, "ct_label": 128, "ct_event": 32, "fib_addrtype": 32, "cgroupsv2": 64, "string": 0,
    "bitmask": 8,
}  # fmt: skip


def _words(text: str) -> dict[str, int]:
    return {word: int(number) for word, _, number in (each.partition("=") for each in text.split())}


WORDS: Mapping[str, Mapping[str, int]] = {
    "ether_type": _words("ip=2048 arp=2054 ip6=34525 8021q=33024 8021ad=34984 vlan=33024"),
    "arp_op": _words("request=1 reply=2 rrequest=3 rreply=4 inrequest=8 inreply=9 nak=10"),
    "dscp": _words(
        "cs0=0 cs1=8 cs2=16 cs3=24 cs4=32 cs5=40 cs6=48 cs7=56 df=0 be=0 lephb=1 af11=10 af12=12 af13=14 af21=18 af22=20 af23=22"
        " af31=26 af32=28 af33=30 af41=34 af42=36 af43=38 va=44 ef=46"
    ),
    "ecn": _words("not-ect=0 ect1=1 ect0=2 ce=3"),
    "inet_proto": {name: number for number, name in PROTOCOL_NAMES.items()},
    "icmp_type": _words(
        "echo-reply=0 destination-unreachable=3 source-quench=4 redirect=5 echo-request=8 router-advertisement=9"
        " router-solicitation=10 time-exceeded=11 parameter-problem=12 timestamp-request=13 timestamp-reply=14 info-request=15"
        " info-reply=16 address-mask-request=17 address-mask-reply=18"
    ),
    "icmp_code": _words(
        "net-unreachable=0 host-unreachable=1 prot-unreachable=2 port-unreachable=3 net-prohibited=9 host-prohibited=10"
        " admin-prohibited=13 frag-needed=4"
    ),
    "icmpv6_type": _words(
        "destination-unreachable=1 packet-too-big=2 time-exceeded=3 parameter-problem=4 echo-request=128 echo-reply=129"
        " mld-listener-query=130 mld-listener-report=131 mld-listener-done=132 mld-listener-reduction=132 nd-router-solicit=133"
        " nd-router-advert=134 nd-neighbor-solicit=135 nd-neighbor-advert=136 nd-redirect=137 router-renumbering=138"
        " ind-neighbor-solicit=141 ind-neighbor-advert=142 mld2-listener-report=143"
    ),
    "icmpv6_code": _words("no-route=0 admin-prohibited=1 addr-unreachable=3 port-unreachable=4 policy-fail=5 reject-route=6"),
    "icmpx_code": _words("port-unreachable=1 admin-prohibited=3 no-route=0 host-unreachable=2"),
    "igmp_type": _words(
        "membership-query=17 membership-report-v1=18 membership-report-v2=22 membership-report-v3=34 leave-group=23"
    ),
    "tcp_flag": _words("fin=1 syn=2 rst=4 psh=8 ack=16 urg=32 ecn=64 cwr=128"),
    "dccp_pkttype": _words("request=0 response=1 data=2 ack=3 dataack=4 closereq=5 close=6 reset=7 sync=8 syncack=9"),
    "mh_type": _words(
        "binding-refresh-request=0 home-test-init=1 careof-test-init=2 home-test=3 careof-test=4 binding-update=5"
        " binding-acknowledgement=6 binding-error=7 fast-binding-update=8 fast-binding-acknowledgement=9"
        " fast-binding-advertisement=10 experimental-mobility-header=11 home-agent-switch-message=12"
    ),
    "iface_type": _words("ether=1 ppp=512 ipip=768 ipip6=769 loopback=772 sit=776 ipgre=778"),
    "nf_proto": _words("ipv4=2 ipv6=10"),
    "pkt_type": _words("host=0 unicast=0 broadcast=1 multicast=2 other=3"),
    "boolean": _words("exists=1 missing=0"),
    "day": _words("Sunday=0 Monday=1 Tuesday=2 Wednesday=3 Thursday=4 Friday=5 Saturday=6"),
    "ct_state": _words("invalid=1 new=8 established=2 related=4 untracked=64"),
    "ct_dir": _words("original=0 reply=1"),
    "ct_status": _words("expected=1 seen-reply=2 assured=4 confirmed=8 snat=16 dnat=32 dying=512"),
    "ct_event": _words(
        "new=1 related=2 destroy=4 reply=8 assured=16 protoinfo=32 helper=64 mark=128 seqadj=256 secmark=512 label=1024"
    ),
    "fib_addrtype": _words("unspec=0 unicast=1 local=2 broadcast=3 anycast=4 multicast=5 blackhole=6 unreachable=7 prohibit=8"),
}


def _fields(text: str) -> dict[str, tuple[str, int]]:
    """Read `name:type`, `name:width` (an integer) or `name:type/width`; `~` stands for a space in a name."""
    found = {}
    for name, _, kind in (each.partition(":") for each in text.split()):
        type_, _, width = kind.partition("/")
        found[name.replace("~", " ")] = (INTEGER, int(type_)) if type_.isdigit() else (type_, int(width or WIDTHS[type_]))
    return found


PAYLOADS: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "ether": _fields("daddr:ether_addr saddr:ether_addr type:ether_type"),
    "vlan": _fields("id:12 dei:1 cfi:1 pcp:3 type:ether_type"),
    "arp": _fields(
        "htype:16 ptype:ether_type hlen:8 plen:8 operation:arp_op saddr~ip:ipv4_addr daddr~ip:ipv4_addr saddr~ether:ether_addr"
        " daddr~ether:ether_addr"
    ),
    "ip": _fields(
        "version:4 hdrlength:4 dscp:dscp ecn:ecn length:16 id:16 frag-off:16 ttl:8 protocol:inet_proto checksum:16 saddr:ipv4_addr"
        " daddr:ipv4_addr"
    ),
    "ip6": _fields(
        "version:4 dscp:dscp ecn:ecn flowlabel:20 length:16 nexthdr:inet_proto hoplimit:8 saddr:ipv6_addr daddr:ipv6_addr"
    ),
    "icmp": _fields("type:icmp_type code:icmp_code checksum:16 id:16 sequence:16 gateway:32 mtu:16"),
    "icmpv6": _fields("type:icmpv6_type code:icmpv6_code checksum:16 id:16 sequence:16 max-delay:16 mtu:32"),
    "igmp": _fields("type:igmp_type mrt:8 checksum:16 group:32"),
    "tcp": _fields(
        "sport:inet_service dport:inet_service sequence:32 ackseq:32 doff:4 reserved:4 flags:tcp_flag window:16 checksum:16"
        " urgptr:16"
    ),
    "udp": _fields("sport:inet_service dport:inet_service length:16 checksum:16"),
    "udplite": _fields("sport:inet_service dport:inet_service csumcov:16 checksum:16"),
    "sctp": _fields("sport:inet_service dport:inet_service vtag:32 checksum:32"),
    "dccp": _fields("sport:inet_service dport:inet_service type:dccp_pkttype"),
    "ah": _fields("nexthdr:inet_proto hdrlength:8 reserved:16 spi:32 sequence:32"),
    "esp": _fields("spi:32 sequence:32"),
    "comp": _fields("nexthdr:inet_proto flags:bitmask cpi:16"),
    "th": _fields("sport:inet_service dport:inet_service"),
}
EXTENSIONS: Mapping[str, Mapping[str, tuple[str, int]]] = {
    "hbh": _fields("nexthdr:inet_proto hdrlength:8"),
    "rt": _fields("nexthdr:inet_proto hdrlength:8 type:8 seg-left:8"),
    "rt0": {},
    "rt2": {},
    "rt4": {},
    "frag": _fields("nexthdr:inet_proto reserved:8 frag-off:13 reserved2:2 more-fragments:1 id:32"),
    "dst": _fields("nexthdr:inet_proto hdrlength:8"),
    "mh": _fields("nexthdr:inet_proto hdrlength:8 type:mh_type reserved:8 checksum:16"),
}
META: Mapping[str, tuple[str, int]] = _fields(
    "length:32 protocol:ether_type priority:classid mark:mark iif:iface_index oif:iface_index iifname:ifname oifname:ifname"
    " iiftype:iface_type oiftype:iface_type skuid:uid skgid:gid nftrace:1 rtclassid:realm secmark:32 nfproto:nf_proto"
    " l4proto:inet_proto ibrname:ifname obrname:ifname ibriport:ifname obriport:ifname pkttype:pkt_type cpu:32 iifgroup:devgroup"
    " oifgroup:devgroup cgroup:32 random:32 ipsec:boolean secpath:boolean iifkind:ifname oifkind:ifname ibrpvid:16"
    " ibrvproto:ether_type time:time day:day hour:hour sdif:iface_index sdifname:ifname"
)
CONNECTION: Mapping[str, tuple[str, int]] = _fields(
    "state:ct_state direction:ct_dir status:ct_status mark:mark expiration:time/32 helper:string label:ct_label l3proto:nf_proto"
    " protocol:inet_proto proto-src:inet_service proto-dst:inet_service bytes:64 packets:64 avgpkt:64 zone:16 secmark:32"
    " event:ct_event id:32 ip~saddr:ipv4_addr ip~daddr:ipv4_addr ip6~saddr:ipv6_addr ip6~daddr:ipv6_addr"
)
_SOCKET = _fields("transparent:8 mark:mark wildcard:8 cgroupv2:cgroupsv2")
_RT = _fields("classid:realm mtu:16 ipsec:boolean")
_FIB = {"type": ("fib_addrtype", 32), "oif": ("iface_index", 32), "oifname": ("ifname", 0)}
_OPTIONS = {
    "tcp": _fields("length:8 size:16 count:8 left:32 right:32 tsval:32 tsecr:32"),
    "ip": _fields("type:8 length:8 ptr:8 value:8 addr:ipv4_addr"),
}
_UNTYPED = (INTEGER, 0)


def describe(expression: Expression) -> tuple[str, int]:  # noqa: C901, PLR0911, PLR0912 - one line a kind
    """Return an expression's type and its width in bits; `("integer", 0)` for one that nft does not describe."""
    match expression:
        case Meta():
            return META.get(expression.key, _UNTYPED)
        case Payload():
            return PAYLOADS.get(expression.protocol, {}).get(expression.field, _UNTYPED)
        case Ct():
            return CONNECTION.get(expression.key, _UNTYPED)
        case RawPayload():
            return INTEGER, expression.length
        case Fib():
            return _FIB.get(expression.result, _UNTYPED)
        case Exthdr():
            found = EXTENSIONS.get(expression.name, {}).get(expression.field, _UNTYPED)
            return found if expression.field else ("boolean", 8)
        case HeaderOption():
            found = _OPTIONS.get(expression.protocol, {}).get(expression.field, _UNTYPED)
            return found if expression.field else ("boolean", 8)
        case Socket():
            return _SOCKET.get(expression.key, _UNTYPED)
        case Rt():
            if expression.key == "nexthop":
                return ("ipv6_addr", 128) if expression.family == "ip6" else ("ipv4_addr", 32)
            return _RT.get(expression.key, _UNTYPED)
        case Binary():
            # Under arithmetic everything is a number, of the width of what is computed with.
            return INTEGER, max(describe(expression.left)[1], describe(expression.right)[1])
        case int() | Concat() | Lookup() | Opaque():
            return _UNTYPED
        case _:
            assert_never(expression)


@cache
def _listed(type_: str) -> dict[int, str]:
    return {number: word for word, number in reversed(list(WORDS[type_].items()))}


def word_of(number: int, type_: str) -> int | str:
    """Return the constant that stands for a number of a type: nft's word for it, or the number itself."""
    return _listed(type_).get(number, number) if type_ in WORDS else number


def number_of(word: str, type_: str) -> int | None:
    """Return the number that a word of a type stands for, or None when the type has no such word."""
    return WORDS.get(type_, {}).get(word)
