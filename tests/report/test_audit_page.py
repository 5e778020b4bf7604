"""The audit's page: every question for every family, every packet with its rule; and a ruleset that tries to be markup."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from failshut.audit.answer.explain import explain
from failshut.audit.prove import audit
from failshut.audit.world.infer import infer
from failshut.read import read_ruleset
from failshut.report.audit import FAMILIES, Audited, audit_page, word_of
from failshut.report.facts import Machine
from pages import article, assert_accessible, assert_self_contained, parsed, words_of

MACHINE = Machine("Linux 6.1.0 (x86_64)", "nftables v1.0.6", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "0.1.0")
SCRIPT = "<script>alert(1)</script>"
LEAKY = f"""table inet "lock" {{
  chain out {{
    type filter hook output priority 0; policy drop;
    oifname {{ "lo", "wg0" }} accept
    ip daddr 203.0.113.10 udp dport 51820 accept
    ct state established,related accept comment "{SCRIPT} & 'quoted'"
    @th,0,8 53 accept
  }}
}}
"""
TIGHT = """table inet lock {
  chain out {
    type filter hook output priority 0; policy drop;
    oifname { "lo", "wg0" } accept
    udp dport 51820 ip daddr 203.0.113.10 accept
  }
  chain forward { type filter hook forward priority 0; policy drop; }
}
"""


def audited(text: str, name: str) -> Audited:
    reading = read_ruleset(text.encode(), name)
    world = infer(reading.ruleset)
    return Audited((name,), reading, world, audit(reading.ruleset, world))


@pytest.fixture(scope="module")
def leaky() -> Audited:
    return audited(LEAKY, '"><img src=x>.nft')


def test_every_answer_is_on_the_page(leaky):
    """In the table by question and family, with its word beside the colour; each packet with rule, place, text and reason."""
    page = audit_page(leaky, MACHINE)
    tree = parsed(page)
    text = words_of(tree)

    for result in leaky.results:
        assert result.question.title in text
        if word_of(result) in ("proved", "works"):
            continue
        card = words_of(article(tree, f"{result.question.name}-{result.family}"))
        assert FAMILIES[result.family] in card
        assert word_of(result) in card
        for witness in result.witnesses:
            words = explain(result, witness)
            assert " ".join(words.packet.split()) in card
            assert words.why in card
    assert "leaks" in words_of(next(tree.iter("{http://www.w3.org/1999/xhtml}h1")))
    assert ".nft:6" in text
    assert_accessible(page)


def test_a_rule_that_is_markup_stays_a_rule(leaky):
    """A comment in the ruleset and a file's name are shown as they are, and run nothing."""
    page = audit_page(leaky, MACHINE)

    assert SCRIPT not in page
    assert f"ct state established,related accept comment \"{SCRIPT} & 'quoted'\"" in words_of(parsed(page))
    assert_self_contained(page)


def test_what_was_not_understood_is_listed(leaky):
    """A proof that rests on an approximation says on which."""
    listed = {each.text for each in leaky.reading.approximations} | {
        each.text for result in leaky.results for each in result.approximations
    }
    text = words_of(parsed(audit_page(leaky, MACHINE)))

    assert listed
    assert all(" ".join(each.split()) in text for each in listed)


def test_rules_that_leak_nothing_are_proved():
    """The control: green, and no packet but those of the notes."""
    found = audited(TIGHT, "tight.nft")
    page = audit_page(found, MACHINE)

    assert not any(each.is_leak for each in found.results)
    assert "proved" in words_of(next(parsed(page).iter("{http://www.w3.org/1999/xhtml}h1")))
    assert_self_contained(page)
    assert_accessible(page)


def test_a_file_that_is_not_whole_is_never_proved():
    """What could be read may be tight; the page shows what is wrong with the text."""
    found = audited(TIGHT + "table inet broken {\n chain x { nonsense is here\n", "broken.nft")
    page = audit_page(found, MACHINE)

    assert not found.reading.is_whole
    assert "not whole" in words_of(next(parsed(page).iter("{http://www.w3.org/1999/xhtml}h1")))
    assert all(each.message in words_of(parsed(page)) for each in found.reading.findings)
