"""A lock with one rule too many or too few is caught: the drill is no rubber stamp."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from failshut.drill.judgement.outcome import RunResult, conclude
from failshut.drill.network.plan import make_plan
from failshut.drill.network.rules import RuleSource
from failshut.drill.pool import Job, Worker, preflight
from failshut.drill.rules.source import NftLock
from failshut.drill.scenarios import SCENARIOS, THEMES
from failshut.drill.workers.process import CannotDrillError
from failshut.report.drill import Drilled, drill_page
from failshut.report.facts import Machine
from lab.drilling import example_rehearsal
from pages import article, parsed, words_of

# What is done to the lock's text, by regular expression, and the scenario that must see it.
WEAKENED = {
    "established is accepted on the way out": (
        r"(chain underlay \{\n)",
        r"\1 ct state established goto allowed\n",
        "clear-tracked",
    ),
    "the endpoint is an address and a port": (
        r"(chain underlay \{\n)",
        r"\1 ip daddr 203.0.113.10 udp dport 51820 goto allowed\n",
        "rogue-payload",
    ),
    "the endpoint is an address": (r"(chain underlay \{\n)", r"\1 ip daddr 203.0.113.10 goto allowed\n", "rogue-payload"),
    "the owner of the transport is not asked": (r"udp dport 51820 meta skuid 0 ", "udp dport 51820 ", "other-users"),
    "the source's interface is not asked": (r"\n[^\n]*comment \"source\"", "", "tunnel-source"),
    "the LAN's resolver is allowed": (r"\n[^\n]*comment \"dns\"", "", "dns-lan"),
    "nothing is held under IP": (r"(egress-\S+ \{\n[^\n]*\n)", r"\1 accept\n", "packet-sockets"),
    "ARP is answered for the tunnel": (r"\n[^\n]*arp saddr ip [^\n]*", "", "tunnel-asked-for"),
    "the choke point is missing": (r"(chain postrouting \{\n[^\n]*\n)", r"\1 goto allowed\n", "rerouting-mark"),
    "forwarding is open": (
        r"(chain (?:forward|postrouting) \{\n[^\n]*\n)",
        r"\1 iifname drill-docker0 goto allowed\n",
        "container",
    ),
    "multicast is allowed": (r"(chain underlay \{\n)", r"\1 ip daddr 224.0.0.0/4 goto allowed\n", "names-on-the-link"),
    "IPv6 is forgotten": (r"(chain underlay \{\n)", r"\1 meta nfproto ipv6 goto allowed\n", "bound-to-device"),
    "port 22 may answer anybody": (r"(chain underlay \{\n)", r"\1 udp sport 22 goto allowed\n", "source-ports"),
    "reports may be long": (r" ip6 length <= 136", "", "joined-groups"),
    "neighbour discovery may be long": (r" ip6 length <= 64", "", "ndp-cargo"),
    "a routing header is not asked for": (r"\n[^\n]*comment \"source-route\"", "", "odd-headers"),
    "names are looked up by TCP and UDP alone": (r"\{ tcp, udp, udplite, sctp, dccp \}", "{ tcp, udp }", "dns-lan"),
    "names are looked up at 53 and 853 alone": (r"53, 853, 5353, 5355", "53, 853", "dns-lan"),
    "EAPOL is anybody's": (r"(0x888e, 0x88c7 \}) meta skuid 0 ", r"\1 ", "eapol-programs"),
    "ARP may be long": (r"ether type arp meta length <= 64", "ether type arp", "odd-frames"),
    "link control may be anything": (r" ether type (< 0x0600|0x8809)", "", "link-control-cargo"),
    "link control may be long": (r" meta length <= 128", "", "odd-frames"),
}

# The same, and the scenario in which something must be seen to fail.
BROKEN = {
    "the server must not speak first": (r"\n[^\n]*saddr [^\n]*accept comment \"transport:wg0\"", "", "works-server-first"),
    "a service's own first word is reset": (
        r"\n[^\n]*sport 22 ip6? daddr \{[^}]*\} drop comment \"inbound:ssh\"",
        "",
        "works-sessions",
    ),
    "a forgotten session's first word takes the tunnel": (
        r"\n[^\n]*sport 22 [^\n]*ct direction original [^\n]*",
        "",
        "works-sessions",
    ),
    "replies take the tunnel": (r"\n[^\n]*comment \"inbound:reply\"", "", "works-inbound"),
    "the bridges' protocol is refused": (r"\n[^\n]*comment \"stp\"", "", "works-link-control"),
    "link aggregation is refused": (r"\n[^\n]*comment \"lacp\"", "", "works-link-control"),
}


@pytest.mark.lab
@pytest.mark.scenario(1)
@pytest.mark.parametrize("weakness", WEAKENED)
def test_a_weakened_lock_is_caught(weakness):
    """Each weakness is one that a published kill switch has, or that was removed in research/kernel.md."""
    result = _run(*WEAKENED[weakness])

    assert result.leaked > 0


@pytest.mark.lab
@pytest.mark.scenario(122)
@pytest.mark.parametrize("fault", BROKEN)
def test_a_lock_that_breaks_something_is_caught(fault):
    """The control of what must still work: without its rule it does not, and the drill sees it."""
    result = _run(*BROKEN[fault])

    assert not all(result.works.values()), result


@pytest.mark.lab
def test_a_weakened_lock_paints_a_leak():
    """The control of the drill's page: it is red, with the packets in the lock's own column, and the picture has a leak."""
    pattern, replacement, name = WEAKENED["the endpoint is an address and a port"]
    result = _run(pattern, replacement, name)
    rehearsal = example_rehearsal()
    plan = make_plan(rehearsal.policy, rehearsal.facts)
    outcome = conclude(SCENARIOS[name], result, None)
    machine = Machine("Linux", "nftables", datetime.now(UTC), "0")

    page = drill_page(Drilled(rehearsal.policy, plan, (outcome,), THEMES, 1.0), machine)

    tree = parsed(page)
    card = article(tree, name)
    assert sum(result.timeline.leaked) == result.leaked > 0
    assert "leaked" in words_of(next(each for each in tree.iter() if each.tag.endswith("}h1")))
    assert f"failshut {result.leaked:,} leaked" in words_of(card)
    assert [each for each in card.iter() if each.get("class") == "leaked"]
    assert all(" ".join(line.split()) in words_of(card) for line in result.leaks)


def _run(pattern: str, replacement: str, scenario: str) -> RunResult:
    """Run a scenario with the lock's text changed."""
    try:
        preflight(real_root=os.geteuid() == 0)
    except CannotDrillError as reason:
        pytest.skip(str(reason))
    rehearsal = example_rehearsal()
    # The chains are declared, then flushed, then filled: only the filling is changed.
    declared, filled = rehearsal.lock.text.split("flush table", maxsplit=1)
    weakened = declared + "flush table" + re.sub(pattern, replacement, filled)
    assert weakened != rehearsal.lock.text, "the lock's text has changed: adapt the pattern"

    worker = Worker(replace(rehearsal, lock=NftLock(weakened)))
    try:
        result = worker.run(Job(SCENARIOS[scenario], RuleSource.LOCK))
    finally:
        worker.close()

    if result.skipped:
        pytest.skip(result.reason)
    assert not result.reason, result.reason
    return result
