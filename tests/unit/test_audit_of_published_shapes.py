"""What people write into a kill switch and the audit once answered worse than it could: the least rules that show it."""

from __future__ import annotations

from failshut.audit.explain import explain
from failshut.audit.prove import Answer, audit
from failshut.audit.world import World
from failshut.model.ruleset import Family, Ruleset
from failshut.read.iptables import read_save
from failshut.read.nft_text import read_text

WORLD = World(tunnels=("wg0",))


def nft(rules: str, beside: str = "") -> Ruleset:
    """An output chain that lets out loopback, the tunnel and what `rules` accept."""
    shut = 'chain o { type filter hook output priority 0; policy drop\noifname { "lo", "wg0" } accept\n'
    reading = read_text(f"table inet t {{\n{beside}\n{shut}{rules}\n}}\n}}\n", "rules.nft")
    assert reading.findings == ()
    return reading.ruleset


def save(*rules: str) -> Ruleset:
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT DROP [0:0]", *rules, "COMMIT", ""]
    reading = read_save("\n".join(lines), "rules.v4", Family.IP)
    assert reading.findings == ()
    return reading.ruleset


def answers(ruleset: Ruleset, world: World = WORLD) -> dict[str, Answer]:
    return {f"{each.question.name}{each.family}": each.answer for each in audit(ruleset, world)}


class TestNamesOfUsers:
    """`--uid-owner debian-tor` exempts that user, whichever number the machine gave it."""

    def test_a_user_that_is_named_is_exempt_and_nobody_else(self):
        """An ordinary program is another's."""
        for rules in (save("-A OUTPUT -m owner --uid-owner debian-tor -j ACCEPT"), nft('meta skuid "debian-tor" accept')):
            found = answers(rules)

            assert (found["new-flow4"], found["exempt4"]) == (Answer.PROVED, Answer.LEAK)

    def test_everybody_but_a_user_is_an_ordinary_program_too(self):
        """The control: negated, the same rule lets it out."""
        for rules in (save("-A OUTPUT -m owner ! --uid-owner debian-tor -j ACCEPT"), nft('meta skuid != "debian-tor" accept')):
            assert answers(rules)["new-flow4"] is Answer.LEAK

    def test_a_witness_says_the_name(self):
        """Not the number that stands for it."""
        result = next(each for each in audit(nft("meta skuid tor accept"), WORLD) if each.question.name == "exempt")

        assert "(uid tor, gid 1000)" in explain(result, result.witnesses[0]).packet

    def test_names_in_a_set_are_names(self):
        """Of a named set, and in a concatenation."""
        users = "set users { type uid; elements = { vpn, 1600-1609 }\n}"
        for rules in (nft("meta skuid @users accept", users), nft('meta skuid . oifname { vpn . "eth0" } accept')):
            found = answers(rules)

            assert (found["new-flow4"], found["exempt4"]) == (Answer.PROVED, Answer.LEAK)
