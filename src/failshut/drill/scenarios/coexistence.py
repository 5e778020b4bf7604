"""Other tools' rules on the same machine: they accept, re-route, rewrite, copy, insert. A drop of the lock's is final."""

from __future__ import annotations

import socket

from failshut.drill.attacker import senders
from failshut.drill.lab import Lab
from failshut.drill.scenario import Need, Scenario
from failshut.drill.scenarios.routing import lose_rules, new_flows
from failshut.model.units import Address

EVERY_HOOK = ("prerouting", "input", "forward", "output", "postrouting")


def _load(lab: Lab, text: str) -> None:
    lab.client.do("nft", "-f", "-", stdin=text)


def accept_everything(lab: Lab) -> None:
    """Accept everything at every hook, before and after the lock, and lose the rules."""
    chains = "\n".join(
        f"chain {hook}-{number} {{ type filter hook {hook} priority {priority}; policy accept; accept; }}"
        for hook in EVERY_HOOK
        for number, priority in enumerate((-450, -1, 1, 2147483647))
    )
    _load(lab, f"table inet other {{\n{chains}\n}}\n")
    lose_rules(lab)
    new_flows(lab)


def iptables_accept(lab: Lab) -> None:
    """Set every policy to ACCEPT, flush, and insert ACCEPT at the head, with both of iptables' backends; lose the rules."""
    for tool in ("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"):
        for words in (
            ("-P", "OUTPUT", "ACCEPT"),
            ("-F",),
            ("-X",),
            ("-I", "OUTPUT", "-j", "ACCEPT"),
            ("-I", "FORWARD", "-j", "ACCEPT"),
        ):
            answer = lab.client.run(tool, *words)
            if not answer.ok:
                lab.notes.append(f"{tool} {' '.join(words)}: {answer.err.strip()[:80]}")
    lose_rules(lab)
    new_flows(lab)


def rerouting_mark(lab: Lab) -> None:
    """Mark everything with the tunnel's own mark in a route chain: it is routed again, after the output filters."""
    mark = f"{int(lab.plan.fwmark):#x}"
    chains = "\n".join(
        f"chain r{number} {{ type route hook output priority {priority}; meta mark set {mark}; }}"
        for number, priority in enumerate((-150, 100))
    )
    _load(lab, f"table inet other {{\n{chains}\n}}\n")
    new_flows(lab)


def late_rerouting_mark(lab: Lab) -> None:
    """Re-route with the tunnel's mark after the lock's output chain, as late as the kernel lets another tool."""
    mark = f"{int(lab.plan.fwmark):#x}"
    _load(lab, f"table inet other {{ chain r {{ type route hook output priority 2147483647; meta mark set {mark}; }}; }}\n")
    new_flows(lab)


def rewritten(lab: Lab) -> None:
    """Rewrite destinations at output: what goes to the LAN, and to the server, ends up on the Internet."""
    rules = []
    for version, protocol in ((4, "ip"), (6, "ip6")):
        target = lab.target(f"from the LAN, IPv{version}").of(version)
        rules.append(f"{protocol} daddr {lab.lan_host(version)} udp dport 4444 dnat {protocol} to {target}")
        endpoint = lab.plan.endpoint(version)
        if endpoint is not None:
            target = lab.target(f"from the server, IPv{version}").of(version)
            rules.append(f"{protocol} daddr {endpoint.address} udp dport 4444 dnat {protocol} to {target}")
    _load(lab, "table inet other { chain n { type nat hook output priority -100;\n" + "\n".join(rules) + "\n}; }\n")
    lose_rules(lab)
    for version in (4, 6):
        endpoint = lab.plan.endpoint(version)
        for address in (lab.lan_host(version), endpoint.address if endpoint else None):
            if address is not None:
                _send_to(lab, address)


def _send_to(lab: Lab, address: Address) -> None:
    with lab.sending(senders.family(address.version), socket.SOCK_DGRAM) as sock:
        lab.extra_sent += senders.attempts(lambda: sock.sendto(b"rewritten", (str(address), 4444)))


def source_rewritten(lab: Lab) -> None:
    """Masquerade everything that leaves by the cable, so that it wears the right source; lose the rules."""
    _load(lab, f"table inet other {{ chain n {{ type nat hook postrouting priority 100; oifname {lab.device} masquerade; }}; }}\n")
    lose_rules(lab)
    new_flows(lab)


def copied(lab: Lab) -> None:
    """Copy what goes into the tunnel to the cable: `dup` in IP, and `dup` under it."""
    rules = (
        f"chain o {{ type filter hook output priority 0; oifname {lab.tunnel.device} dup to {lab.router(4)} device {lab.device}; }}"
    )
    if not lab.client.run("nft", "-f", "-", stdin=f"table ip other {{ {rules}; }}\n").ok:
        lab.notes.append("the kernel has no dup in IP")
    egress = f"chain e {{ type filter hook egress device {lab.tunnel.device} priority 0; dup to {lab.device}; }}"
    if not lab.client.run("nft", "-f", "-", stdin=f"table netdev other {{ {egress}; }}\n").ok:
        lab.notes.append("the kernel has no dup under IP")
    new_flows(lab)


SCENARIOS = (
    Scenario("accept-everything", "another table accepts everything", (98, 99), accept_everything),
    Scenario("iptables-accept", "iptables -F, -P ACCEPT, -I ACCEPT", (94, 97, 98, 102), iptables_accept, needs=(Need.IPTABLES,)),
    Scenario("rerouting-mark", "another table re-routes with the tunnel's mark", (101,), rerouting_mark, guide_leaks=True),
    Scenario("late-rerouting-mark", "another table re-routes after everything else", (101,), late_rerouting_mark),
    Scenario("rewritten", "destinations rewritten at output", (100,), rewritten),
    Scenario("source-rewritten", "sources rewritten at postrouting", (100,), source_rewritten),
    Scenario("copied", "packets copied to the cable (dup)", (101,), copied),
)
