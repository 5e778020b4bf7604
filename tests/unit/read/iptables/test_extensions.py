"""Every match and target that iptables 1.8 has: what the real program takes is read without complaint, and so is what it saves."""

from __future__ import annotations

import pytest

from failshut.read.iptables import read_save
from failshut.read.iptables.meaning.table import MATCH_READERS, TARGET_READERS
from failshut.read.iptables.vocabulary import MATCHES, TARGETS
from iptables_rules import CHAINS, Program, each_program, programs, save

RULES = """
-A INPUT -m ah
-A OUTPUT -p ah -m ah --ahspi 5
-A OUTPUT -m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"
-A OUTPUT -m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 0xdeadbeef
-A OUTPUT -m connbytes --connbytes 10000:100000 --connbytes-dir both --connbytes-mode bytes
-A OUTPUT -m connbytes ! --connbytes 10000 --connbytes-dir reply --connbytes-mode packets
-A OUTPUT -m connlabel --label 5
-A INPUT -p tcp -m connlimit --connlimit-above 10 --connlimit-mask 24 --connlimit-saddr
-A INPUT -m connlimit --connlimit-upto 3
-A OUTPUT -p dccp -m dccp --dccp-types REQUEST,RESPONSE
-A OUTPUT -p dccp -m dccp ! --dccp-option 3
-A OUTPUT -m ecn --ecn-ip-ect 1
-A OUTPUT -m hashlimit --hashlimit-upto 1/sec --hashlimit-burst 5 --hashlimit-mode srcip,dstport --hashlimit-name x \
--hashlimit-htable-expire 2000
-A OUTPUT -m hashlimit --hashlimit-above 200kb/s --hashlimit-mode dstip --hashlimit-name y --hashlimit-srcmask 24
-A OUTPUT -m helper --helper ftp-2121
-A OUTPUT -m helper ! --helper ftp
-A OUTPUT -p 108 -m ipcomp --ipcompspi 5
-A OUTPUT -m ipvs --ipvs
-A OUTPUT -m ipvs --vaddr 10.0.0.0/8 --vdir ORIGINAL
-A OUTPUT -m osf --genre Linux
-A INPUT -p tcp -m osf --genre Linux --ttl 0 --log 1
-A INPUT -m physdev --physdev-in eth0 --physdev-is-bridged
-A FORWARD -m physdev ! --physdev-out br+ --physdev-is-bridged
-A INPUT -m policy --dir in --pol ipsec --strict --reqid 5 --spi 0x1 --proto esp --mode tunnel \
--tunnel-src 10.0.0.0/8 --tunnel-dst 10.1.0.0/16 --next --reqid 2
-A INPUT -m policy --dir in --pol none
-A OUTPUT -m realm --realm 0x1/0x2
-A OUTPUT -m realm ! --realm 7
-A OUTPUT -m recent --set --name a --rdest
-A OUTPUT -m recent ! --rcheck --seconds 60 --hitcount 4 --rttl --name a --mask 255.255.255.0
-A OUTPUT -m recent --update --seconds 60 --reap --name a
-A OUTPUT -m recent --remove --name a
-A OUTPUT -p sctp -m sctp --chunk-types any DATA:Be,INIT
-A OUTPUT -p sctp -m sctp ! --chunk-types only COOKIE_ECHO
-A INPUT -m socket
-A INPUT -m socket --transparent --nowildcard --restore-skmark
-A OUTPUT -m statistic --mode random ! --probability 0.25
-A OUTPUT -m statistic --mode nth --every 3 --packet 1
-A OUTPUT -m string --string "-j ACCEPT" --algo bm --from 5 --to 99 --icase
-A OUTPUT -m string ! --hex-string "|0a 0b|x" --algo kmp
-A OUTPUT -m time --timestart 09:00 --timestop 17:00 --weekdays Mon,Tue
-A OUTPUT -m time ! --monthdays 1,2 --datestart 2020-01-01T00:00:00 --kerneltz
-A OUTPUT -m u32 --u32 "0>>22&0x3C@4=0x29 && 6&0xFF=1,2:3"
-A OUTPUT -m u32 ! --u32 0x0=0x0
-A OUTPUT -m nfacct --nfacct-name x
-A OUTPUT -m rateest --rateest x --rateest-lt --rateest-bps 8bit
-A OUTPUT -m quota --quota 100
-A OUTPUT -m cgroup --cgroup 1
-A OUTPUT -m cpu --cpu 0
-A OUTPUT -m devgroup --src-group 1
-A INPUT -m devgroup ! --src-group 0x1/0xff
-A OUTPUT -p icmp -m icmp --icmp-type fragmentation-needed
-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type no-route
-A INPUT -m eui64
-A INPUT -m ipv6header --header hop,dst,route --soft
-A INPUT -m ipv6header ! --header none
-A INPUT -m dst --dst-len 5 --dst-opts 1:2,3
-A INPUT -m hbh ! --hbh-len 5 --hbh-opts 1
-A INPUT -m frag --fragid 1:2 --fraglen 3 --fragres --fragfirst --fragmore
-A INPUT -m rt --rt-type 0 --rt-len 5 --rt-0-res --rt-0-addrs ::1,::2 --rt-0-not-strict
-A INPUT -p mobility-header -m mh --mh-type binding-refresh-request
-A INPUT -m srh --srh-next-hdr 6 ! --srh-hdr-len-eq 8
-A INPUT -p tcp -m tcpmss ! --mss 1:5
-A INPUT -m mac ! --mac-source 00:11:22:33:44:55
-A OUTPUT -j AUDIT --type accept
-A OUTPUT -j CHECKSUM --checksum-fill
-A OUTPUT -j CLASSIFY --set-class 20:5
-A OUTPUT -j CONNMARK --set-xmark 0x1/0x2
-A OUTPUT -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff00 --left-shift-mark 8
-A OUTPUT -j CONNSECMARK --save
-A OUTPUT -j SECMARK --selctx system_u:object_r:firefox_packet_t:s0
-A OUTPUT -j DSCP --set-dscp 0x1
-A OUTPUT -p tcp -j ECN --ecn-tcp-remove
-A OUTPUT -j HMARK --hmark-tuple src,dst,sport --hmark-mod 16 --hmark-offset 100 --hmark-rnd 0xcafe
-A OUTPUT -j IDLETIMER --timeout 600 --label x
-A OUTPUT -j IDLETIMER --timeout 600 --label y --alarm
-A OUTPUT -j LED --led-trigger-id x --led-delay 5 --led-always-blink
-A OUTPUT -j LOG --log-tcp-sequence --log-tcp-options --log-ip-options --log-uid --log-macdecode
-A OUTPUT -j NFLOG --nflog-group 1 --nflog-prefix "a\\"b" --nflog-size 64 --nflog-threshold 3
-A OUTPUT -j NFQUEUE --queue-balance 0:3 --queue-bypass --queue-cpu-fanout
-A OUTPUT -j NFQUEUE
-A OUTPUT -j RATEEST --rateest-name x --rateest-interval 250ms --rateest-ewmalog 0.5s
-A OUTPUT -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
-A INPUT -p tcp -m tcp --syn -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460
-A OUTPUT -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-A OUTPUT -p tcp --syn -j TCPMSS --set-mss 1360
-A OUTPUT -p tcp -j TCPOPTSTRIP --strip-options sack-permitted,timestamp
-A OUTPUT -j TEE --gateway 10.0.0.1
-A OUTPUT -j TEE --gateway fe80::1 --oif lo
-A OUTPUT -j TOS --set-tos 0x10
-A OUTPUT -j TOS --and-tos 0x10
-A OUTPUT -j TOS --or-tos Minimize-Delay
-A OUTPUT -j TOS --set-tos 0x1/0x3
-A PREROUTING -p udp -j TPROXY --on-port 5 --on-ip 10.0.0.1 --tproxy-mark 0x1/0xff
-A PREROUTING -p udp -j TPROXY --on-port 5
-A OUTPUT -j TRACE
-A OUTPUT -j TTL --ttl-set 64
-A OUTPUT -j TTL --ttl-inc 1
-A OUTPUT -j HL --hl-dec 1
-A POSTROUTING -j SNPT --src-pfx 2001:db8::/64 --dst-pfx fd00::/64
-A PREROUTING -j DNPT --src-pfx fd00::/64 --dst-pfx 2001:db8::/64
-A OUTPUT -j CT --helper ftp
-A OUTPUT -p udp -j CT --zone-orig 5
-A OUTPUT -j CT --zone mark
-A OUTPUT -j CT --ctevents new,destroy
-A OUTPUT -p tcp -j CT --timeout x
-A PREROUTING -m rpfilter --loose --validmark --accept-local --invert
-A PREROUTING -j CT --notrack
-A POSTROUTING -j SNAT --to-source 10.0.0.1 --random --persistent
-A POSTROUTING -p tcp -j SNAT --to 10.0.0.1-10.0.0.3:5-9
-A POSTROUTING -j SNAT --to-source 2001:db8::1-2001:db8::5
-A PREROUTING -p tcp -j DNAT --to [2001:db8::1]:80
-A PREROUTING -p tcp -j DNAT --to-destination [2001:db8::1-2001:db8::5]:80-90
-A PREROUTING -p tcp -j REDIRECT --to-port 80 --random
-A POSTROUTING -p tcp -j MASQUERADE --to-ports 5 --random-fully
-A PREROUTING -j NETMAP --to 10.0.0.0/255.0.0.0
-A PREROUTING -j NETMAP --to 2001:db8::/64
-A POSTROUTING -j CLUSTERIP
""".strip().splitlines()
# What no kernel here takes, or only with something beside it: a set, an accounting object, a helper, SELinux.
ELSEWHERE = {"set", "SET", "nfacct", "rateest", "CLUSTERIP"}


def tables(line: str) -> list[str]:
    """Return the tables that have the chain of a rule, the likeliest first."""
    return [table for table in ("filter", "mangle", "raw", "nat") if line.split()[1] in CHAINS[table]]


@pytest.mark.skipif(not programs(), reason="iptables is not installed: nobody to ask")
@each_program()
def test_what_iptables_takes_is_read_and_so_is_what_it_saves(program: Program):
    """No finding for either, and one meaning of both unless something in it is unknown."""
    texts = [save(line, table=table) for line in RULES for table in tables(line)]

    taken = [(text, saved) for text, saved in zip(texts, program.load(*texts), strict=True) if saved]

    assert len(taken) > 100
    for text, saved in taken:
        given, listed = (read_save(each, "rules", program.family) for each in (text, saved))
        assert (given.findings, listed.findings) == ((), ()), text
        if not given.approximations:
            assert meaning(given) == meaning(listed), text


def meaning(reading):
    """Return the statements of every chain."""
    (table,) = reading.ruleset.canonical().tables
    return [(chain.name, [set(rule.statements) for rule in chain.rules]) for chain in table.chains]


def test_every_word_of_the_vocabulary_is_tried():
    """A match or target without a rule above would be read by nobody's example."""
    words = {word for line in RULES for word in line.split()}
    tried_elsewhere = {
        "addrtype",
        "comment",
        "connmark",
        "conntrack",
        "esp",
        "hl",
        "iprange",
        "length",
        "limit",
        "mark",
        "multiport",
    }
    tried_elsewhere |= {"owner", "pkttype", "state", "tcp", "udp", "ttl", "tos", "dscp"}
    tried_elsewhere |= {"ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "NOTRACK", "QUEUE", "ULOG"}

    assert set(MATCHES) | set(TARGETS) <= words | tried_elsewhere | ELSEWHERE


def test_every_word_has_a_reader():
    """Each is understood, or known to be not understood."""
    assert set(MATCHES) == set(MATCH_READERS)
    assert set(TARGETS) - {"ACCEPT", "DROP", "RETURN"} <= set(TARGET_READERS)
