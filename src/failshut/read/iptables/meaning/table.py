"""Every match and target by its name: who reads it, and where the kernel has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from failshut.read.iptables.meaning import connection, fields, marks, nat, owner, sets, targets, transport
from failshut.read.iptables.meaning.ways import Seen, Ways
from failshut.read.iptables.tree import Part
from failshut.read.iptables.vocabulary import MATCHES, TARGETS

Reader = Callable[[Part, Seen], Ways]

# What has no entry is read as a match that may hold or not.
MATCH_READERS: dict[str, Reader] = {
    **dict.fromkeys(MATCHES, fields.not_known),
    "addrtype": fields.addrtype,
    "ah": transport.ah,
    "cgroup": fields.cgroup,
    "comment": fields.left_alone,
    "connmark": connection.connmark,
    "conntrack": connection.conntrack,
    "cpu": fields.cpu,
    "dccp": transport.dccp,
    "devgroup": fields.devgroup,
    "dscp": fields.dscp,
    "dst": fields.extension,
    "ecn": transport.ecn,
    "esp": transport.esp,
    "frag": fields.fragment,
    "hbh": fields.extension,
    "helper": connection.helper,
    "hl": fields.ttl,
    "icmp": transport.icmp,
    "icmp6": transport.icmp,
    "iprange": fields.iprange,
    "length": fields.length,
    "limit": fields.limit,
    "mac": fields.mac,
    "mark": fields.mark,
    "multiport": transport.multiport,
    "nfacct": fields.left_alone,
    "owner": owner.owner,
    "pkttype": fields.pkttype,
    "policy": fields.policy,
    "quota": fields.quota,
    "recent": fields.recent,
    "rpfilter": fields.rpfilter,
    "rt": fields.routing,
    "sctp": transport.sctp,
    "set": sets.set_,
    "state": connection.state,
    "tcp": transport.tcp,
    "tcpmss": transport.tcpmss,
    "tos": fields.tos,
    "ttl": fields.ttl,
    "u32": fields.u32,
    "udp": transport.udp,
}

# What has no entry may do anything.
TARGET_READERS: dict[str, Reader] = {
    **dict.fromkeys(TARGETS, targets.not_known),
    **dict.fromkeys(("AUDIT", "CHECKSUM", "CONNSECMARK", "IDLETIMER", "LED", "RATEEST", "SECMARK", "TCPOPTSTRIP"), targets.nothing),
    "CLASSIFY": targets.classify,
    "CONNMARK": marks.connmark,
    "CT": targets.connection,
    "DNAT": nat.dnat,
    "DNPT": targets.translate_prefix,
    "DSCP": targets.dscp,
    "ECN": targets.congestion,
    "HL": targets.hops,
    "HMARK": marks.hash_mark,
    "LOG": targets.log,
    "MARK": marks.mark,
    "MASQUERADE": nat.masquerade,
    "NETMAP": nat.netmap,
    "NFLOG": targets.nflog,
    "NFQUEUE": targets.queue,
    "NOTRACK": targets.connection,
    "QUEUE": targets.queue,
    "REDIRECT": nat.redirect,
    "REJECT": targets.reject,
    "SET": targets.set_,
    "SNAT": nat.snat,
    "SNPT": targets.translate_prefix,
    "SYNPROXY": targets.synproxy,
    "TCPMSS": targets.segment,
    "TEE": nat.tee,
    "TOS": targets.tos,
    "TPROXY": nat.tproxy,
    "TRACE": targets.trace,
    "TTL": targets.hops,
    "ULOG": targets.nflog,
}

ONLY_IN_VERSION = {
    **dict.fromkeys(("match icmp", "match ttl", "match realm"), 4),
    **dict.fromkeys(
        (f"match {name}" for name in ("dst", "eui64", "frag", "hbh", "hl", "icmp6", "ipv6header", "mh", "rt", "srh")), 6
    ),
    **dict.fromkeys((f"target {name}" for name in ("CLUSTERIP", "ECN", "TTL", "ULOG")), 4),
    **dict.fromkeys((f"target {name}" for name in ("DNPT", "HL", "SNPT")), 6),
}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the kernel takes a match or a target; empty is everywhere."""

    tables: tuple[str, ...] = ()
    chains: tuple[str, ...] = ()


_OUT = ("OUTPUT", "POSTROUTING")
_IN = ("PREROUTING", "INPUT", "FORWARD")
_BEFORE = ("PREROUTING", "OUTPUT")
# The `.table` and `.hooks` of the kernel's xt_match and xt_target.
ONLY_IN_PLACES = {
    "match owner": Places(chains=_OUT),
    "match mac": Places(chains=_IN),
    "match rpfilter": Places(("raw", "mangle"), ("PREROUTING",)),
    "target CHECKSUM": Places(("mangle",)),
    "target CT": Places(("raw",)),
    "target DNAT": Places(("nat",), _BEFORE),
    "target DNPT": Places(("mangle",)),
    "target DSCP": Places(("mangle",)),
    "target ECN": Places(("mangle",)),
    "target HL": Places(("mangle",)),
    "target MASQUERADE": Places(("nat",), ("POSTROUTING",)),
    "target NETMAP": Places(("nat",)),
    "target NOTRACK": Places(("raw",)),
    "target REDIRECT": Places(("nat",), _BEFORE),
    "target REJECT": Places(("filter",), ("INPUT", "FORWARD", "OUTPUT")),
    "target SNAT": Places(("nat",), ("INPUT", "POSTROUTING")),
    "target SNPT": Places(("mangle",)),
    "target TOS": Places(("mangle",)),
    "target TPROXY": Places(("mangle",), ("PREROUTING",)),
    "target TTL": Places(("mangle",)),
}
