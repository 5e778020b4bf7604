"""The drill's page, from values: verdicts, witnesses, limits; and nothing that a policy or a file is called gets out of place."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from failshut.drill.judgement.outcome import RunResult, Status, conclude
from failshut.drill.network.plan import make_plan
from failshut.drill.rules.source import RuleSource
from failshut.drill.scenarios import SCENARIOS, THEMES
from failshut.drill.timeline import Timeline
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.units import InterfaceName
from failshut.report.drill import Drilled, drill_page
from failshut.report.facts import Machine
from lab.drilling import example_policy
from pages import article, assert_accessible, assert_self_contained, parsed, words_of

MACHINE = Machine("Linux 6.1.0 (x86_64)", "nftables v1.0.6", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "0.1.0")
HELD = Timeline(0.2, 0.3, (10, 10, 30), (10, 10, 0), (0, 0, 0), (0, 0, 0))
LEAKY = Timeline(0.2, 0.3, (10, 10, 30), (10, 10, 0), (0, 0, 0), (0, 0, 7))
PACKET = "  0.210s eth0: 10.99.0.2:49000 → 198.18.0.1:7000 tcp len 486"
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def run_of(name: str, source: RuleSource, line: Timeline = HELD, **fields) -> RunResult:
    leaked = sum(line.leaked)
    packets = (PACKET,) if leaked else ()
    return RunResult(name, source, sent=sum(line.sent), leaked=leaked, leaks=packets, timeline=line, **fields)


def outcome_of(name: str, lock: Timeline = HELD, **fields):
    control = run_of(name, RuleSource.NONE, LEAKY) if SCENARIOS[name].control else None
    return conclude(SCENARIOS[name], run_of(name, RuleSource.LOCK, lock, **fields), control)


def page_of(*outcomes, policy: Policy | None = None, devices=("eth0", "eth1"), **fields) -> str:
    policy = policy or example_policy()
    plan = make_plan(policy, HostFacts(underlay=tuple(map(InterfaceName, devices))))
    return drill_page(Drilled(policy, plan, outcomes, THEMES, 12.0, **fields), MACHINE)


def banner(page: str) -> str:
    return words_of(next(each for each in parsed(page).iter() if each.get("class", "").startswith("banner")))


def test_a_drill_that_held_says_so_at_once():
    """The word, the counts, the policy, kernel, nft and date; the attack's picture for both runs, with their sums."""
    page = page_of(outcome_of("guide-1"), outcome_of("works-lan", works={"a printer": True}), is_example=True)
    card = words_of(article(parsed(page), "guide-1"))

    assert "held" in banner(page)
    assert "leaked with failshut 0" in banner(page)
    assert "leaked with no lock 7" in banner(page)
    for fact in ("the bundled example", "wg0", "Linux 6.1.0", "nftables v1.0.6", "2026-01-02 03:04:05", "203.0.113.10:51820"):
        assert fact in page
    assert "no lock 7 leaked" in card
    assert "failshut 0 leaked" in card
    assert PACKET.strip() in card
    assert "1 of 1" in words_of(article(parsed(page), "works-lan"))
    assert_self_contained(page)
    assert_accessible(page)


VERDICTS = {
    "leaked": (outcome_of("guide-1", LEAKY), Status.LEAKED, "leaked"),
    "broken": (outcome_of("works-lan", works={"a printer": False}), Status.BROKEN, "broken"),
    "void": (outcome_of("guide-1", reason="the worker died"), Status.VOID, "not proven"),
    "skipped": (outcome_of("guide-1", reason="needs a thing", skipped=True), Status.SKIPPED, "nothing tried"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_banner_says_the_worst(case):
    """Beside a scenario that held, whatever did not is the page's verdict; what was not tried is named."""
    outcome, status, word = VERDICTS[case]
    page = page_of(outcome) if status is Status.SKIPPED else page_of(outcome_of("guide-2"), outcome)

    assert outcome.status is status
    assert word in banner(page)
    assert outcome.reason in words_of(article(parsed(page), outcome.scenario.name))
    assert_accessible(page)


def test_a_limit_is_counted_apart():
    """Its packets are in no sum of the lock's, and it has a section of its own."""
    page = page_of(outcome_of("guide-1"), outcome_of("foreign-flush", LEAKY))

    assert "leaked with failshut 0" in banner(page)
    assert "Counted apart: 7 packets in 1 known limit." in banner(page)
    assert "held" in banner(page)


def test_a_leak_in_what_must_still_work_is_counted():
    """No packet that leaked is missing in the sum at the head of the page."""
    page = page_of(outcome_of("guide-1"), outcome_of("works-lan", LEAKY))

    assert "leaked with failshut 7" in banner(page)
    assert PACKET.strip() in words_of(article(parsed(page), "works-lan"))


def test_other_rules_have_a_column_between():
    """No lock, the file, failshut; a file that can't be loaded says why in its column."""
    both = replace(outcome_of("guide-1"), beside=run_of("guide-1", RuleSource.BESIDE, LEAKY))
    refused = replace(outcome_of("guide-2"), beside=RunResult("guide-2", RuleSource.BESIDE, reason="rules.v4 can't be loaded"))
    page = page_of(both, refused, beside="rules.v4")
    card = words_of(article(parsed(page), "guide-1"))

    assert card.index("no lock 7 leaked") < card.index("rules.v4 7 leaked") < card.index("failshut 0 leaked")
    assert "rules.v4 can't be loaded" in words_of(article(parsed(page), "guide-2"))
    assert "leaked under rules.v4 7" in banner(page)
    assert_accessible(page)


def test_rules_that_could_not_be_loaded_leaked_nothing_and_held_nothing():
    """No number stands for what was not tried."""
    refused = replace(outcome_of("guide-2"), beside=RunResult("guide-2", RuleSource.BESIDE, reason="rules.v4 can't be loaded"))
    page = page_of(refused, beside="rules.v4")

    assert "leaked under" not in banner(page)
    assert "Under rules.v4 nothing could be judged" in banner(page)


def test_no_name_gets_out_of_its_place():
    """A policy's path, a file's name, a reason, a packet's line, a device: shown as they are, and never markup."""
    policy = replace(example_policy(), path=f'a "quoted" {HOSTILE}.toml')
    outcome = replace(outcome_of("guide-1", reason=HOSTILE), beside=run_of("guide-1", RuleSource.BESIDE, LEAKY, notes=(HOSTILE,)))
    outcome = replace(outcome, lock=replace(outcome.lock, leaks=(HOSTILE,), leaked=1, unavailable={HOSTILE: HOSTILE}))
    page = page_of(outcome, policy=policy, beside=HOSTILE, devices=("e<b>h0", "&amp;"))

    assert_self_contained(page)
    assert_accessible(page)
    assert HOSTILE in words_of(parsed(page))
    assert 'a "quoted"' in words_of(parsed(page))


@pytest.mark.parametrize("devices", [("eth0",), ("eth0", "eth1", "wlan0"), ("eth0", "eth1", "wlan0", "usb0")])
def test_the_lab_is_drawn_from_its_plan(devices):
    """Each cable with its device's name, for a wide screen and for a narrow one."""
    page = page_of(outcome_of("guide-1"), devices=devices)
    drawings = [each for each in parsed(page).iter() if each.get("class") in ("wide", "tall")]

    assert len(drawings) == 2
    for drawing in drawings:
        for name in (*devices[:3], "wg0", "203.0.113.10:51820", "192.168.50.0/24"):
            assert name in words_of(drawing)


def test_a_page_of_every_scenario_is_small():
    """With three columns and three busy seconds in each, under 1 MB."""
    long = Timeline(0.5, 1.0, *(tuple((7 * at + number) % 61 for at in range(30)) for number in (60, 40, 3, 9)))
    outcomes = [
        replace(conclude(each, run_of(each.name, RuleSource.LOCK, long), None), beside=run_of(each.name, RuleSource.BESIDE, long))
        for each in SCENARIOS.values()
    ]
    outcomes = [replace(each, control=run_of(each.scenario.name, RuleSource.NONE, long)) for each in outcomes]

    page = page_of(*outcomes, beside="rules.v4")

    tree = parsed(page)
    assert all(words_of(article(tree, each)) for each in SCENARIOS)
    assert len(page.encode()) < 1_000_000
