"""The words of iptables: which options each match and target has, and how many values follow each.

`name` takes one value, `name/0` none, `name/2` two. Source: iptables-extensions(8) and the extensions of iptables 1.8.9.
"""

from __future__ import annotations

Arity = dict[str, int]


def _options(text: str) -> Arity:
    named = (word.partition("/") for word in text.split())
    return {name: int(count or 1) for name, _, count in named}


def _modules(text: str) -> dict[str, Arity]:
    found: dict[str, list[str]] = {}
    for word in text.split():
        if word.endswith(":"):
            options = found.setdefault(word[:-1], [])
        else:
            options.append(word)
    return {name: _options(" ".join(options)) for name, options in found.items()}


# Options of iptables itself, by long name; "" is what the short ones of the kernel's own rule header are called.
HEADER = _options("source destination in-interface out-interface protocol fragment/0")
SHORT = {"s": "source", "d": "destination", "i": "in-interface", "o": "out-interface", "p": "protocol", "f": "fragment"}

MATCHES = _modules("""
addrtype: src-type dst-type limit-iface-in/0 limit-iface-out/0
ah: ahspi ahlen ahres/0
bpf: bytecode object-pinned
cgroup: cgroup path
cluster: cluster-total-nodes cluster-local-node cluster-local-nodemask cluster-hash-seed
comment: comment
connbytes: connbytes connbytes-dir connbytes-mode
connlabel: label set/0
connlimit: connlimit-upto connlimit-above connlimit-mask connlimit-saddr/0 connlimit-daddr/0
connmark: mark
conntrack: ctstate ctproto ctorigsrc ctorigdst ctreplsrc ctrepldst ctorigsrcport ctorigdstport ctreplsrcport ctrepldstport
    ctstatus ctexpire ctdir
cpu: cpu
dccp: sport dport dccp-types dccp-option
devgroup: src-group dst-group
dscp: dscp dscp-class
dst: dst-len dst-opts
ecn: ecn-tcp-cwr/0 ecn-tcp-ece/0 ecn-ip-ect
esp: espspi
eui64:
frag: fragid fraglen fragres/0 fragfirst/0 fragmore/0 fraglast/0
hashlimit: hashlimit hashlimit-upto hashlimit-above hashlimit-burst hashlimit-mode hashlimit-srcmask hashlimit-dstmask
    hashlimit-name hashlimit-htable-size hashlimit-htable-max hashlimit-htable-expire hashlimit-htable-gcinterval
    hashlimit-rate-match/0 hashlimit-rate-interval
hbh: hbh-len hbh-opts
helper: helper
hl: hl-eq hl-lt hl-gt
icmp: icmp-type
icmp6: icmpv6-type
ipcomp: ipcompspi compres/0
iprange: src-range dst-range
ipv6header: header soft/0
ipvs: ipvs/0 vproto vaddr vport vdir vmethod vportctl
length: length
limit: limit limit-burst
mac: mac-source
mark: mark
mh: mh-type
multiport: sports dports ports
nfacct: nfacct-name
osf: genre ttl log
owner: uid-owner gid-owner socket-exists/0 suppl-groups/0
physdev: physdev-in physdev-out physdev-is-in/0 physdev-is-out/0 physdev-is-bridged/0
pkttype: pkt-type
policy: dir pol strict/0 reqid spi proto mode tunnel-src tunnel-dst next/0
quota: quota
realm: realm
recent: set/0 rcheck/0 update/0 remove/0 seconds reap/0 hitcount rttl/0 name mask rsource/0 rdest/0
rpfilter: loose/0 validmark/0 accept-local/0 invert/0
rt: rt-type rt-segsleft rt-len rt-0-res/0 rt-0-addrs rt-0-not-strict/0
sctp: sport dport chunk-types/2
set: match-set/2 return-nomatch/0 update-counters/0 update-subcounters/0 packets-eq packets-lt packets-gt bytes-eq bytes-lt
    bytes-gt
socket: nowildcard/0 transparent/0 restore-skmark/0
state: state
statistic: mode probability every packet
string: from to algo string hex-string icase/0
tcp: sport dport tcp-flags/2 syn/0 tcp-option
tcpmss: mss
time: datestart datestop timestart timestop monthdays weekdays kerneltz/0 localtz/0 utc/0 contiguous/0
tos: tos
ttl: ttl-eq ttl-lt ttl-gt ttl
u32: u32
udp: sport dport
""")

TARGETS = _modules("""
ACCEPT:
AUDIT: type
CHECKSUM: checksum-fill/0
CLASSIFY: set-class
CLUSTERIP: new/0 hashmode clustermac total-nodes local-node hash-init
CONNMARK: set-xmark set-mark and-mark or-mark xor-mark save-mark/0 restore-mark/0 nfmask ctmask mask left-shift-mark
    right-shift-mark
CONNSECMARK: save/0 restore/0
CT: notrack/0 helper ctevents expevents zone zone-orig zone-reply timeout
DNAT: to-destination random/0 persistent/0
DNPT: src-pfx dst-pfx
DROP:
DSCP: set-dscp set-dscp-class
ECN: ecn-tcp-remove/0
HL: hl-set hl-dec hl-inc
HMARK: hmark-tuple hmark-mod hmark-offset hmark-src-prefix hmark-dst-prefix hmark-sport-mask hmark-dport-mask hmark-spi-mask
    hmark-sport hmark-dport hmark-spi hmark-proto-mask hmark-rnd
IDLETIMER: timeout label alarm/0
LED: led-trigger-id led-delay led-always-blink/0
LOG: log-level log-prefix log-tcp-sequence/0 log-tcp-options/0 log-ip-options/0 log-uid/0 log-macdecode/0
MARK: set-xmark set-mark and-mark or-mark xor-mark
MASQUERADE: to-ports random/0 random-fully/0
NETMAP: to
NFLOG: nflog-group nflog-prefix nflog-range nflog-size nflog-threshold
NFQUEUE: queue-num queue-balance queue-bypass/0 queue-cpu-fanout/0
NOTRACK:
QUEUE:
RATEEST: rateest-name rateest-interval rateest-ewmalog
REDIRECT: to-ports random/0
REJECT: reject-with
RETURN:
SECMARK: selctx
SET: add-set/2 del-set/2 map-set/2 timeout exist/0 map-mark/0 map-prio/0 map-queue/0
SNAT: to-source random/0 random-fully/0 persistent/0
SNPT: src-pfx dst-pfx
SYNPROXY: sack-perm/0 timestamp/0 wscale mss ecn/0
TCPMSS: set-mss clamp-mss-to-pmtu/0
TCPOPTSTRIP: strip-options
TEE: gateway oif
TOS: set-tos and-tos or-tos xor-tos
TPROXY: on-port on-ip tproxy-mark
TRACE:
TTL: ttl-set ttl-dec ttl-inc
ULOG: ulog-nlgroup ulog-prefix ulog-cprange ulog-qthreshold
""")

# Other spellings of the same option.
ALIASES = {
    "src": "source",
    "dst": "destination",
    "fragments": "fragment",
    "proto": "protocol",
    "source-port": "sport",
    "destination-port": "dport",
    "source-ports": "sports",
    "destination-ports": "dports",
    "port": "ports",
}

# The match that a protocol brings along without `-m`, by the protocol's number.
IMPLIED = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 50: "esp", 51: "ah", 58: "icmp6", 132: "sctp", 135: "mh"}

# What says where a rule goes, and what iptables-restore does with a chain: long names of the one-letter commands.
COMMANDS = {
    "append": "A",
    "check": "C",
    "delete": "D",
    "delete-chain": "X",
    "flush": "F",
    "insert": "I",
    "list": "L",
    "list-rules": "S",
    "new-chain": "N",
    "policy": "P",
    "rename-chain": "E",
    "replace": "R",
    "zero": "Z",
}
