"""The rules that are measured beside each other: none, what people use, and ours.

The shapes of other programs' switches are written anew from what they do (which chains at which hooks, in which order, matched by
what), not from their text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.ground import must
from failshut.emit.nft import emit
from failshut.lower import lower
from failshut.lower.shut import guard
from failshut.model.ruleset import Family, Ruleset
from golden_cases import load_case

GOLDEN = Path(__file__).parents[1] / "tests/golden"

GUIDE = """*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT DROP
-A INPUT -i lo -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p tcp --dport 22 -m state --state NEW -j ACCEPT
-A OUTPUT -p udp -d 203.0.113.10 --dport 51820 -j ACCEPT
-A OUTPUT -d 192.168.1.0/24 -j ACCEPT
-A OUTPUT -o wg0 -j ACCEPT
-A INPUT -i wg0 -j ACCEPT
COMMIT
"""

# One table; the marks of split tunnelling in a route chain, masquerading, look-ups before the tunnel, a reject at the end.
MULLVAD = """table inet switch {
	chain prerouting {
		type filter hook prerouting priority -199; policy accept;
		ip saddr 203.0.113.10 udp sport 51820 meta mark set 0x6d6f6c65
	}
	chain mangle {
		type route hook output priority -150; policy accept;
		ct mark 0x00000f41 meta mark set 0x6d6f6c65
	}
	chain output {
		type filter hook output priority 0; policy drop;
		oif "lo" accept
		ct mark 0x00000f41 accept
		ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
		ip6 saddr fe80::/10 udp sport 546 ip6 daddr { ff02::1:2, ff05::1:3 } udp dport 547 accept
		ip6 daddr ff02::2 icmpv6 type nd-router-solicit accept
		ip6 daddr { ff02::1:ff00:0/104, fe80::/10 } icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		ip daddr 203.0.113.10 udp dport 51820 meta mark 0xca6c accept
		oifname "wg0" ip daddr 10.99.0.1 udp dport 53 accept
		oifname "wg0" ip daddr 10.99.0.1 tcp dport 53 accept
		udp dport 53 reject
		tcp dport 53 reject
		ip daddr { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16 } oifname != "wg0" accept
		oifname "wg0" accept
		reject
	}
	chain input {
		type filter hook input priority 0; policy drop;
		iif "lo" accept
		ct state established accept
		iifname "wg0" accept
		drop
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
		reject
	}
	chain nat {
		type nat hook postrouting priority 100; policy accept;
		oifname "wg0" ct mark 0x00000f41 drop
		oifname != "lo" ct mark 0x00000f41 masquerade
	}
}
"""

# Many small chains, in front of the others' rules, one jump after the other.
_IVPN_OUT = ("LOOPBACK", "DHCP", "SPLIT", "DNS", "STATIC", "LAN", "ALLOWED", "VPN", "SERVER")
IVPN = "\n".join(
    [
        "*filter",
        ":INPUT DROP",
        ":FORWARD DROP",
        ":OUTPUT DROP",
        *(f":{each}-{way} -" for each in _IVPN_OUT for way in ("OUT", "IN")),
        *(f"-A OUTPUT -j {each}-OUT" for each in _IVPN_OUT),
        *(f"-A INPUT -j {each}-IN" for each in _IVPN_OUT),
        "-A LOOPBACK-OUT -o lo -j ACCEPT",
        "-A LOOPBACK-IN -i lo -j ACCEPT",
        "-A DHCP-OUT -p udp --dport 67 -j ACCEPT",
        "-A DHCP-IN -p udp --sport 67 -j ACCEPT",
        "-A SPLIT-OUT -m mark --mark 0xca6d -j ACCEPT",
        "-A DNS-OUT -p udp ! -o wg0 --dport 53 -j DROP",
        "-A DNS-OUT -p tcp ! -o wg0 --dport 53 -j DROP",
        "-A STATIC-OUT -d 192.0.2.9 -j ACCEPT",
        "-A LAN-OUT -d 192.168.1.0/24 -j ACCEPT",
        "-A VPN-OUT -o wg0 -j ACCEPT",
        "-A VPN-IN -i wg0 -j ACCEPT",
        "-A SERVER-OUT -d 203.0.113.10 -p udp --dport 51820 -j ACCEPT",
        "-A SERVER-IN -s 203.0.113.10 -p udp --sport 51820 -j ACCEPT",
        "COMMIT",
        "",
    ]
)

# Policies that drop, and established first.
GLUETUN = """*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT DROP
-A INPUT -i lo -j ACCEPT
-A OUTPUT -o lo -j ACCEPT
-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A OUTPUT -d 203.0.113.10 -o eth0 -p udp --dport 51820 -j ACCEPT
-A OUTPUT -o wg0 -j ACCEPT
-A OUTPUT -s 192.168.50.2 -d 192.168.50.0/24 -o eth0 -j ACCEPT
COMMIT
"""

# For what one rule that asks for the connection costs, whatever else there is.
TRACKED = """table inet tracked {
	chain output {
		type filter hook output priority 0; policy accept;
		ct state invalid accept
	}
}
"""


def lock(case: str = "guide", *, under_ip: bool = True, guarded: bool = False) -> str:
    """Return the lock of a golden policy as text, with the layer under IP and the guard's table or without."""
    policy, facts = load_case(GOLDEN / case)
    wanted = lower(policy, facts)
    if not under_ip:
        wanted = Ruleset(tuple(table for table in wanted.tables if table.family is not Family.NETDEV))
    text = emit(wanted)
    if guarded:
        # Not owned: the table would go with the nft that loads it.
        text += "\n" + emit(Ruleset(tuple(replace(table, flags=frozenset()) for table in guard(policy, facts).tables)))
    return text


def nft(text: str) -> Callable[[], None]:
    """Return what loads nft's text into the namespace at hand."""
    return lambda: _loaded("nft", "-f", "-", text=text)


def iptables(text: str, program: str = "iptables-nft-restore") -> Callable[[], None]:
    """Return what loads a save of iptables."""
    return lambda: _loaded(program, text=text)


def _loaded(*argv: str, text: str) -> None:
    must(*argv, stdin=text)


NO_RULES = "no rules"
FAILSHUT = "failshut"
GUARDED = "failshut, guard's table too"
# A policy that allows nothing beside the tunnel, and the same after `failshut allow`.
ALONE, OPENED = "failshut, a tunnel alone", "failshut, a tunnel alone, after `allow`"


def switches() -> dict[str, Callable[[], None]]:
    """Return everything that is compared, by its name."""
    return {
        NO_RULES: lambda: None,
        "one rule that asks for the connection": nft(TRACKED),
        "the guide, iptables-nft": iptables(GUIDE),
        "the guide, iptables-legacy": iptables(GUIDE, "iptables-legacy-restore"),
        "as Mullvad's": nft(MULLVAD),
        "as IVPN's": iptables(IVPN),
        "as gluetun's": iptables(GLUETUN),
        "failshut, choke point alone": nft(lock(under_ip=False)),
        FAILSHUT: nft(lock()),
        GUARDED: nft(lock(guarded=True)),
        ALONE: nft(lock("minimal")),
        OPENED: nft(lock("opened_for_a_time")),
    }
