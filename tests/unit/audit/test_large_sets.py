"""Sets of very many prefixes: told to the solver piece by piece, and the answers are those of a set that is spelled out."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from failshut.audit.answer.result import Answer
from failshut.audit.difference import difference
from failshut.audit.lock import objections
from failshut.audit.prove import Auditor
from failshut.audit.question.properties import PROPERTIES
from failshut.audit.symbolic import terms
from failshut.audit.world import World
from failshut.emit.nft import emit
from failshut.lower import lower
from failshut.read.nft.text import read_text
from golden_cases import CASES, load_case

NEW_FLOW = next(each for each in PROPERTIES if each.name == "new-flow")
# Every other /24 of a stretch: nothing merges.
MANY = [f"{ip_address(0x0B000000 + number * 512)}/24" for number in range(2000)]


def lock(accepted: list[str], dropped: list[str] | None = None):
    drop = f"ip daddr {{ {', '.join(dropped)} }} drop\n" if dropped else ""
    text = (
        "table inet t { chain c { type filter hook output priority 0; policy drop\n"
        f"{drop}ip daddr {{ {', '.join(accepted)} }} accept\n}} }}"
    )
    reading = read_text(text, "many")
    assert reading.is_whole
    return reading.ruleset


def new_flow(ruleset):
    return Auditor(ruleset, World()).ask(NEW_FLOW, 4)


def destination(witness) -> str:
    return str(ip_address(witness.packet["ip daddr"]))


def test_the_same_many_prefixes_on_both_sides_cancel_out():
    """What is refused first is never accepted, whatever the set; one prefix more is found, and is the witness."""
    assert new_flow(lock(MANY, MANY)).answer is Answer.PROVED
    result = new_flow(lock([*MANY, "198.51.100.0/28"], MANY))

    assert result.answer is Answer.LEAK
    assert ip_address(destination(result.witnesses[0])) in ip_network("198.51.100.0/28")


def test_a_witness_lies_in_the_set():
    """The control: a set of many prefixes that is accepted leaks, by an address of one of them, and the second evaluator agrees."""
    result = new_flow(lock(MANY))

    assert result.answer is Answer.LEAK
    assert any(ip_address(destination(result.witnesses[0])) in ip_network(each) for each in MANY)


@pytest.mark.parametrize("seed", range(6))
def test_piece_by_piece_and_spelled_out_say_the_same(seed, monkeypatch):
    """Random sets, nearly alike, unlike or nested: both ways give the same answer, and so does the difference of two rulesets."""
    dice = random.Random(seed)  # noqa: S311 - the same sets every time
    one, two = (dice.sample(MANY, dice.choice((300, 1000, 1990))) for _ in range(2))
    if dice.random() < 0.5:
        two = [*one, *dice.sample(MANY, 2)]

    def answers():
        differing = difference(lock(one), lock(two), World())
        return new_flow(lock(one, two)).answer, bool(differing.opened), bool(differing.closed)

    piecewise = answers()
    monkeypatch.setattr(terms, "MANY", 1 << 30)

    assert piecewise == answers()


def test_a_lock_with_6_000_prefixes_outside_is_proved_and_one_more_in_its_text_is_a_leak():
    """As arming asks, of the text: what the policy names is allowed; what the text names besides is found, by its address."""
    policy, facts = load_case(next(each for each in CASES if each.name == "split_tunnel"))
    outside = replace(policy.outside, prefixes=tuple(ip_network((0x0B000000 + number * 81920, 24)) for number in range(6_000)))
    policy = replace(policy, outside=outside)
    text = emit(lower(policy, facts))
    known = str(outside.prefixes[9])
    assert text.count(known) == 1

    def asked(text: str):
        return objections(read_text(text, "lock").ruleset, policy, facts, under_ip=True, progress=lambda *_: None)

    found = asked(text.replace(known, f"{known}, {outside.prefixes[9].network_address + 512}/24"))

    assert asked(text) == ()
    assert {each.answer for each in found} == {Answer.LEAK}
    addresses = {ip_address(destination(witness)) for each in found for witness in each.witnesses}
    assert addresses <= set(ip_network(f"{outside.prefixes[9].network_address + 512}/24"))
