"""The names that iptables takes for numbers: protocols, services, ICMP types, log levels, DSCP classes.

A reader is pure, so it can't ask /etc/protocols or /etc/services: these are Debian's. A save lists numbers for all but protocols.
Source: netbase's /etc/protocols and /etc/services, `iptables -p icmp -h`, `ip6tables -p ipv6-icmp -h`.
"""

from __future__ import annotations

import re


def _table(text: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (word.partition("=") for word in text.split())}


_PROTOCOLS = _table("""
all=0 hopopt=0 icmp=1 igmp=2 ggp=3 ip-encap=4 ipencap=4 st=5 tcp=6 egp=8 igp=9 pup=12 udp=17 hmp=20 xns-idp=22 rdp=27 iso-tp4=29
dccp=33 xtp=36 ddp=37 idpr-cmtp=38 ipv6=41 ipv6-route=43 ipv6-frag=44 idrp=45 rsvp=46 gre=47 esp=50 ipsec-esp=50 ah=51
ipsec-ah=51 skip=57 icmpv6=58 ipv6-icmp=58 ipv6-nonxt=59 ipv6-opts=60 cphb=73 rspf=73 vmtp=81 eigrp=88 ospf=89 ospfigp=89
ax.25=93 ipip=94 etherip=97 encap=98 pim=103 ipcomp=108 vrrp=112 l2tp=115 isis=124 sctp=132 fc=133 ipv6-mh=135 mh=135
mobility-header=135 udplite=136 mpls-in-ip=137 manet=138 hip=139 shim6=140 wesp=141 rohc=142 ethernet=143
""")

_SERVICES = _table("""
echo=7 discard=9 null=9 sink=9 daytime=13 ftp-data=20 ftp=21 ssh=22 telnet=23 mail=25 smtp=25 time=37 timserver=37 nicname=43
whois=43 domain=53 bootps=67 bootpc=68 tftp=69 finger=79 http=80 www=80 kerberos=88 kerberos-sec=88 kerberos5=88 krb5=88
pop-3=110 pop3=110 portmapper=111 sunrpc=111 auth=113 authentication=113 ident=113 tap=113 nntp=119 readnews=119 untp=119
ntp=123 epmap=135 loc-srv=135 netbios-ns=137 netbios-dgm=138 netbios-ssn=139 imap=143 imap2=143 snmp=161 snmp-trap=162
snmptrap=162 xdmcp=177 bgp=179 ldap=389 svrloc=427 https=443 microsoft-ds=445 kpasswd=464 smtps=465 ssmtp=465 submissions=465
urd=465 isakmp=500 syslog=514 printer=515 spooler=515 route=520 routed=520 router=520 dhcpv6-client=546 dhcpv6-server=547
afpovertcp=548 rtsp=554 nntps=563 snntp=563 submission=587 ipp=631 ldaps=636 ldp=646 domain-s=853 rsync=873 ftps-data=989
ftps=990 imaps=993 pop3s=995 socks=1080 openvpn=1194 ms-sql-s=1433 l2f=1701 l2tp=1701 radius=1812 radacct=1813 radius-acct=1813
nfs=2049 iscsi-target=3260 mysql=3306 ms-wbt-server=3389 distcc=3632 subversion=3690 svn=3690 ipsec-nat-t=4500 iax=4569 sip=5060
sip-tls=5061 jabber-client=5222 xmpp-client=5222 jabber-server=5269 xmpp-server=5269 cfengine=5308 mdns=5353 postgres=5432
postgresql=5432 amqps=5671 amqp=5672 x11=6000 x11-0=6000 redis=6379 syslog-tls=6514 ircd=6667 http-alt=8080 webcache=8080
tproxy=8081 puppet=8140 bacula-dir=9101 bacula-fd=9102 bacula-sd=9103 git=9418 webmin=10000 zabbix-agent=10050
zabbix-trapper=10051 hkp=11371
""")

# type, and code where the name says one.
IcmpNames = dict[str, tuple[int, int | None]]
ICMP: IcmpNames = {
    "echo-reply": (0, None),
    "pong": (0, None),
    "destination-unreachable": (3, None),
    "network-unreachable": (3, 0),
    "host-unreachable": (3, 1),
    "protocol-unreachable": (3, 2),
    "port-unreachable": (3, 3),
    "fragmentation-needed": (3, 4),
    "source-route-failed": (3, 5),
    "network-unknown": (3, 6),
    "host-unknown": (3, 7),
    "network-prohibited": (3, 9),
    "host-prohibited": (3, 10),
    "tos-network-unreachable": (3, 11),
    "tos-host-unreachable": (3, 12),
    "communication-prohibited": (3, 13),
    "host-precedence-violation": (3, 14),
    "precedence-cutoff": (3, 15),
    "source-quench": (4, None),
    "redirect": (5, None),
    "network-redirect": (5, 0),
    "host-redirect": (5, 1),
    "tos-network-redirect": (5, 2),
    "tos-host-redirect": (5, 3),
    "echo-request": (8, None),
    "ping": (8, None),
    "router-advertisement": (9, None),
    "router-solicitation": (10, None),
    "time-exceeded": (11, None),
    "ttl-exceeded": (11, None),
    "ttl-zero-during-transit": (11, 0),
    "ttl-zero-during-reassembly": (11, 1),
    "parameter-problem": (12, None),
    "ip-header-bad": (12, 0),
    "required-option-missing": (12, 1),
    "timestamp-request": (13, None),
    "timestamp-reply": (14, None),
    "address-mask-request": (17, None),
    "address-mask-reply": (18, None),
}
ICMPV6: IcmpNames = {
    "destination-unreachable": (1, None),
    "no-route": (1, 0),
    "communication-prohibited": (1, 1),
    "beyond-scope": (1, 2),
    "address-unreachable": (1, 3),
    "port-unreachable": (1, 4),
    "failed-policy": (1, 5),
    "reject-route": (1, 6),
    "packet-too-big": (2, None),
    "time-exceeded": (3, None),
    "ttl-exceeded": (3, None),
    "ttl-zero-during-transit": (3, 0),
    "ttl-zero-during-reassembly": (3, 1),
    "parameter-problem": (4, None),
    "bad-header": (4, 0),
    "unknown-header-type": (4, 1),
    "unknown-option": (4, 2),
    "echo-request": (128, None),
    "ping": (128, None),
    "echo-reply": (129, None),
    "pong": (129, None),
    "router-solicitation": (133, None),
    "router-advertisement": (134, None),
    "neighbour-solicitation": (135, None),
    "neighbor-solicitation": (135, None),
    "neighbour-advertisement": (136, None),
    "neighbor-advertisement": (136, None),
    "redirect": (137, None),
}

LOG_LEVELS = ("emerg", "alert", "crit", "err", "warn", "notice", "info", "debug")
LOG_LEVEL_NAMES = {"panic": 0, "error": 3, "warning": 4, **{name: number for number, name in enumerate(LOG_LEVELS)}}

DSCP_CLASSES = {
    **{f"cs{number}": number * 8 for number in range(8)},
    "be": 0,
    **{f"af{high}{low}": high * 8 + low * 2 for high in range(1, 5) for low in range(1, 4)},
    "ef": 46,
}
TOS_NAMES = {
    "minimize-delay": 0x10,
    "maximize-throughput": 0x08,
    "maximize-reliability": 0x04,
    "minimize-cost": 0x02,
    "normal-service": 0,
}

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")


def number(text: str, largest: int) -> int | None:
    """Return a number as strtoul(3) reads it with base 0, or None when it is none or too large."""
    if not _NUMBER.fullmatch(text) or len(text) > 24:
        return None
    base = 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" and len(text) > 1 else 10
    try:
        value = int(text, base)
    except ValueError:
        return None
    return value if value <= largest else None


def protocol_number(text: str) -> int | None:
    """Return the number of a protocol by name or number; 0 is every protocol. None when it is not known."""
    found = number(text, 255)
    return _PROTOCOLS.get(text.lower()) if found is None else found


def port_number(text: str) -> int | None:
    """Return a port by number or service; None when it is not known."""
    found = number(text, 65535)
    return _SERVICES.get(text) if found is None else found
