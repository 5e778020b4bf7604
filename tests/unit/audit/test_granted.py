"""What is in the lock's sets while it stands: an opening that ends in time is allowed, and said; any other is a leak."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from failshut.audit.answer.explain import explain
from failshut.audit.answer.result import Answer
from failshut.audit.difference import opened as lets_out_more
from failshut.audit.prove import Auditor
from failshut.audit.question.properties import PROPERTIES
from failshut.audit.world.allowed import world_of
from failshut.audit.world.granted import as_granted, granted, opened
from failshut.read.nft.text import read_text
from golden_cases import CASES, load_case

POLICY = next(each for each in PROPERTIES if each.name == "policy")
PORTAL, OUTSIDE = "failshut.slice/failshut-portal.slice", "failshut.slice/failshut-outside.slice"
# The case, the set, its element, and for how many seconds such an element may stand.
TIMED = [
    ("opened_for_a_time", "timed-lan4", "192.168.7.0/24", 86400),
    ("opened_for_a_time", "timed-lan6", "fd07::/64", 86400),
    ("opened_for_a_time", "timed-to4", "192.0.2.7 . tcp . 443", 86400),
    ("opened_for_a_time", "timed-to6", "2001:db8:9::/48 . udp . 9001", 86400),
    ("opened_for_a_time", "timed-user4", "192.0.2.7 . tcp . 443 . 1000", 86400),
    ("endpoint_by_name", "candidates4", "192.0.2.9 . udp . 51820", 30),
    ("captive_portal", "candidates4", "192.0.2.9 . udp . 51820", 30),
    ("endpoint_by_name", "probe4", "192.0.2.9 . tcp . 853", 10),
    ("on_demand", "open-lan", "ipv4", 86400),
    ("on_demand", "open-ssh", "ipv4", 86400),
    ("on_demand", "open-proxy", "ipv4", 86400),
    ("captive_portal", "portal-programs", f'"{PORTAL}"', 300),
]
PROGRAMS = [
    ("split_tunnel", "outside-programs", OUTSIDE, "user.slice/user-1000.slice"),
    ("pins_of_programs", "programs-ntp", "golden.slice", "other.slice"),
]


def with_elements(text: str, filled: dict[str, str]) -> str:
    for name, elements in filled.items():
        before, begin, rest = text.partition(f"\tset {name} {{\n")
        traits, end, after = rest.partition("\t}\n")
        assert end
        text = f"{before}{begin}{traits}\t\telements = {{ {elements} }}\n{end}{after}"
    return text


class Held:
    """A golden lock with these elements in its sets, as the running kernel lists it."""

    def __init__(self, name: str, **filled: str) -> None:
        case = next(each for each in CASES if each.name == name)
        # The gate that spares every packet the look-up of the others.
        gate = {"timed": "ipv4 timeout 1h expires 59m, ipv6 timeout 1h expires 59m"} if name == "opened_for_a_time" else {}
        sets = gate | {key.replace("_", "-"): value for key, value in filled.items()}
        text = with_elements((case / "expect.nft").read_text(), sets)
        self.listed = read_text(text, "nft list ruleset")
        assert not self.listed.approximations
        self.ruleset = as_granted(self.listed.ruleset)
        self.world = world_of(*load_case(case), open_now=granted(self.listed.ruleset))

    def answers(self) -> set[Answer]:
        """Ask for both families whether all that leaves is allowed."""
        auditor = Auditor(self.ruleset, self.world)
        return {auditor.ask(POLICY, family).answer for family in (4, 6)}


def filled(name: str, elements: str) -> dict[str, str]:
    return {name.replace("-", "_"): elements}


@pytest.mark.parametrize(("case", "name", "element", "longest"), TIMED)
def test_what_is_open_for_a_time_is_allowed_and_said_while_it_is_listed(case, name, element, longest):
    """Proved, and named with the time that is left; the control: it does open something."""
    held = Held(case, **filled(name, f"{element} timeout {longest}s expires 7s"))

    assert held.answers() == {Answer.PROVED}
    said = [each for each in opened(held.listed.ruleset) if each.set == name]
    assert [(each.timeout, each.left, each.is_bounded) for each in said] == [(longest, 7, True)]
    assert lets_out_more(Held(case).ruleset, held.ruleset, held.world)


@pytest.mark.parametrize("time", ["", "timeout {longer}s expires 7s"], ids=["never", "too-late"])
@pytest.mark.parametrize(("case", "name", "element", "longest"), TIMED)
def test_what_never_ends_or_ends_too_late_is_a_leak(case, name, element, longest, time):
    """Somebody else put it there: a packet that goes through it is found, and it is named as what it is."""
    held = Held(case, **filled(name, f"{element} {time.format(longer=longest + 1)}"))

    assert Answer.LEAK in held.answers()
    assert not any(each.is_bounded for each in opened(held.listed.ruleset) if each.set == name)


@pytest.mark.parametrize(("case", "name", "path", "other"), PROGRAMS)
def test_programs_are_told_by_the_policys_control_group_and_no_other(case, name, path, other):
    """The slice of the policy, also where hybrid machines mount it: proved; another group in the same set: a leak."""
    for good in (path, f"unified/{path}"):
        assert Held(case, **filled(name, f'"{good}"')).answers() == {Answer.PROVED}
    held = Held(case, **filled(name, f'"{path}", "{other}"'))
    result = Auditor(held.ruleset, held.world).ask(POLICY, 4)

    assert result.answer is Answer.LEAK
    assert other in explain(result, result.witnesses[0]).packet
    assert lets_out_more(Held(case).ruleset, held.ruleset, held.world), "the control: programs of the group get out"


def test_a_control_group_that_is_gone_is_allowed_and_named():
    """The kernel lists a removed group by its number: what was made in it may live on, and whose it was nobody knows any more."""
    held = Held("split_tunnel", outside_programs=f'"{OUTSIDE}", 4711')

    assert held.answers() == {Answer.PROVED}
    assert [(each.set, each.element) for each in opened(held.listed.ruleset)] == [("outside-programs", 4711)]


def test_the_portals_resolver_is_open_to_the_browser_alone():
    """With the resolver's address listed, the browser's question to it is allowed; listed for ever, it is a leak."""
    browser = f'"{PORTAL}" timeout 5m expires 4m'
    fine = Held("captive_portal", portal_programs=browser, portal_dns4="192.168.7.1 timeout 5m expires 4m")
    stays = Held("captive_portal", portal_programs=browser, portal_dns4="192.168.7.1")

    assert fine.answers() == {Answer.PROVED}
    assert Answer.LEAK in stays.answers()


def test_a_gate_that_is_shut_opens_nothing():
    """Held back by the policy and not asked for: nothing of it is allowed, and nothing of it leaves."""
    shut = Held("on_demand")
    open_lan = Held("on_demand", open_lan="ipv4 timeout 10m expires 9m")

    assert shut.answers() == {Answer.PROVED}
    assert opened(shut.listed.ruleset) == ()
    # The same rules, with the gate open, against a world in which it is shut.
    assert Auditor(open_lan.ruleset, shut.world).ask(POLICY, 4).answer is Answer.LEAK


def test_the_report_names_what_is_open():
    """The page says each opening; of a lock with none it says nothing of the kind."""
    from failshut.report.audit import Audited, audit_page  # noqa: PLC0415 - templates are for this test alone
    from failshut.report.facts import Machine  # noqa: PLC0415

    machine = Machine("6.1", "1.0.6", datetime(2026, 1, 1, tzinfo=UTC), "0")

    def page(held: Held) -> str:
        return audit_page(Audited((), held.listed, held.world, ()), machine)

    said = "Opened for a time: timed-to4: 192.0.2.7 . tcp . 443, 540 s left."

    assert said in page(Held("opened_for_a_time", timed_to4="192.0.2.7 . tcp . 443 timeout 10m expires 9m"))
    assert "Opened for a time" not in page(Held("minimal"))
