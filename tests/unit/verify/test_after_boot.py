"""What `verify --after-boot` makes of systemd's and the journal's words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from failshut.verify.boot import (
    Answer,
    Evidence,
    Line,
    Unit,
    decide,
    first_up,
    locked_at,
    parse_journal,
    parse_units,
    worst_answer,
)

# As systemd 252 writes them on Debian 12, keys and hosts shortened.
JOURNAL = [
    {
        "MESSAGE": "the lock is on (current), before any unit",
        "SYSLOG_IDENTIFIER": "failshut",
        "_TRANSPORT": "kernel",
        "_SOURCE_MONOTONIC_TIMESTAMP": "1204311",
        "__MONOTONIC_TIMESTAMP": "1873120",
    },
    {
        "MESSAGE": "failshut: the lock is on (current)",
        "SYSLOG_IDENTIFIER": "failshut",
        "_TRANSPORT": "stdout",
        "_SYSTEMD_UNIT": "failshut.service",
        "__MONOTONIC_TIMESTAMP": "2410995",
    },
    {
        "MESSAGE": "lo: Link UP",
        "SYSLOG_IDENTIFIER": "systemd-networkd",
        "__MONOTONIC_TIMESTAMP": "1000000",
    },
    {
        "MESSAGE": "eth0: Link UP",
        "SYSLOG_IDENTIFIER": "systemd-networkd",
        "__MONOTONIC_TIMESTAMP": "3120400",
    },
    {
        "MESSAGE": "eth0: Gained carrier",
        "SYSLOG_IDENTIFIER": "systemd-networkd",
        "__MONOTONIC_TIMESTAMP": "3150200",
    },
    {
        "MESSAGE": "wg0: Gained carrier",
        "SYSLOG_IDENTIFIER": "systemd-networkd",
        "__MONOTONIC_TIMESTAMP": "900000",
    },
]
UNITS = """\
Result=success
ExecMainStartTimestampMonotonic=2310001
ExecMainExitTimestampMonotonic=2420017
Id=failshut.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled

Result=success
ExecMainStartTimestampMonotonic=3000200
ExecMainExitTimestampMonotonic=0
Id=systemd-networkd.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled

Result=success
ExecMainStartTimestampMonotonic=0
ExecMainExitTimestampMonotonic=0
Id=NetworkManager.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
"""


def journal(entries=JOURNAL) -> tuple[Line, ...]:
    return parse_journal("\n".join(json.dumps(each) for each in entries))


def evidence() -> Evidence:
    unit, *managers = parse_units(UNITS)
    return Evidence(unit, tuple(managers), journal(), "armed", inside=frozenset({"wg0"}))


def answers(given: Evidence) -> dict[str, Answer]:
    return {each.name: each.answer for each in decide(given)}


def test_a_good_boot_is_ok_in_every_check_and_gives_its_times():
    """The kernel's own time counts for the generator's line, which journald read later."""
    checks = decide(evidence())

    assert worst_answer(checks) is Answer.OK
    assert locked_at(evidence())[0] == 1.204311
    assert first_up(evidence()) == (3.1204, "systemd-networkd: eth0: Link UP")
    assert "lock on at 1.204 s" in checks[3].why
    assert "first up at 3.120 s (systemd-networkd: eth0: Link UP)" in checks[3].why


def test_a_lock_that_came_after_the_first_interface_is_a_leak():
    """The very same lines with the lock at the end."""
    late = tuple(replace(each, at=each.at + 10) if each.who == "failshut" else each for each in journal())
    given = replace(evidence(), lines=late, unit=replace(evidence().unit, ended=12.4))

    found = answers(given)

    assert found["before the first interface"] is Answer.LEAK
    assert found["before network managers"] is Answer.LEAK
    assert worst_answer(decide(given)) is Answer.LEAK


def test_a_manager_that_started_before_the_lock_is_a_leak_even_when_the_interface_came_later():
    """NetworkManager at 1 s, the lock at 1.2 s."""
    given = replace(evidence(), managers=(Unit("NetworkManager.service", loaded=True, started=1.0),))

    found = answers(given)

    assert found["before network managers"] is Answer.LEAK
    assert found["before the first interface"] is Answer.OK


@pytest.mark.parametrize(
    "line",
    [
        Line(1.0, "kernel", "IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready"),
        Line(1.0, "kernel", "e1000e 0000:00:19.0 eno1: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: None"),
        Line(1.0, "kernel", "r8169 0000:03:00.0 enp3s0: Link is Up - 1Gbps/Full - flow control off"),
        Line(1.0, "kernel", "e1000: eth0 NIC Link is Up 1000 Mbps Full Duplex, Flow Control: RX"),
        Line(1.0, "kernel", "wlan0: associated"),
        Line(1.0, "NetworkManager", "<info>  [1763839201.1] device (enp1s0): carrier: link connected"),
        Line(1.0, "NetworkManager", "<info>  [1763839201.1] device (enp1s0): Activation: starting connection 'home' (5a2c)"),
        Line(1.0, "systemd-networkd", "enp1s0: Gained carrier"),
        Line(1.0, "dhclient", "DHCPDISCOVER on eth0 to 255.255.255.255 port 67 interval 3"),
        Line(1.0, "dhclient", "DHCPREQUEST for 192.168.1.7 on eth0 to 255.255.255.255 port 67"),
        Line(1.0, "dhcpcd", "eth0: carrier acquired"),
    ],
)
def test_every_manager_has_its_own_words_for_an_interface_that_comes_up(line):
    """Each of them, a fifth of a second before the lock, is a leak."""
    given = replace(evidence(), lines=(*journal(), line))

    assert answers(given)["before the first interface"] is Answer.LEAK


@pytest.mark.parametrize(
    "line",
    [
        Line(1.0, "systemd-networkd", "lo: Gained carrier"),
        Line(1.0, "systemd-networkd", "wg0: Link UP"),
        Line(1.0, "systemd-networkd", "eth0: Link DOWN"),
        Line(1.0, "kernel", "e1000e 0000:00:19.0 eno1: NIC Link is Down"),
        Line(1.0, "kernel", "virtio_net virtio0 enp1s0: renamed from eth0"),
    ],
)
def test_what_is_no_interface_coming_up_is_none(line):
    """Loopback, the tunnel, a link that goes down, a new name."""
    given = replace(evidence(), lines=(*journal(), line))

    assert answers(given)["before the first interface"] is Answer.OK


def test_a_line_of_another_program_is_not_the_locks():
    """Who only quotes our words has not loaded the lock."""
    quoted = Line(0.5, "sudo", "the lock is on (current)")
    given = replace(evidence(), lines=(quoted, *journal()))

    assert locked_at(given)[0] == 1.204311


def test_without_a_line_of_an_interface_it_can_not_be_known():
    """A journal that begins too late, or a driver that is silent."""
    given = replace(evidence(), lines=journal(JOURNAL[:2]))

    found = answers(given)

    assert found["before the first interface"] is Answer.UNKNOWN
    assert found["before network managers"] is Answer.OK
    assert worst_answer(decide(given)) is Answer.UNKNOWN


def test_an_empty_journal_and_no_unit_is_unknown_and_not_ok():
    """Nothing says when the lock came, and the unit is not there for the next boot."""
    given = Evidence(Unit("failshut.service"), (), (), "armed")

    found = answers(given)

    assert found["before the first interface"] is Answer.UNKNOWN
    assert found["enabled"] is Answer.LEAK
    assert found["succeeded"] is Answer.LEAK


def test_a_journal_without_a_word_of_the_lock_is_a_leak():
    """Interfaces came up and nothing loaded the lock; that it is armed now came later."""
    given = replace(evidence(), lines=journal(JOURNAL[2:]), unit=replace(evidence().unit, ended=None, result=""))

    assert answers(given)["before the first interface"] is Answer.LEAK
    assert answers(given)["before network managers"] is Answer.LEAK


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"enabled": "disabled"}, "enabled"),
        ({"enabled": "masked"}, "enabled"),
        ({"loaded": False}, "enabled"),
        ({"result": "exit-code", "active": "failed"}, "succeeded"),
        ({"result": "timeout", "active": "failed"}, "succeeded"),
        ({"ended": None}, "succeeded"),
    ],
)
def test_a_unit_that_is_not_as_it_should_be_is_said(change, check):
    """Disabled, masked, failed, too late, never run."""
    given = replace(evidence(), unit=replace(evidence().unit, **change))

    assert answers(given)[check] is Answer.LEAK


@pytest.mark.parametrize(
    ("state", "answer"),
    [("armed", Answer.OK), ("drift", Answer.LEAK), ("disarmed", Answer.LEAK), ("unknown", Answer.UNKNOWN)],
)
def test_the_lock_must_still_be_held(state, answer):
    """A good boot is worth nothing when the lock is gone since."""
    assert answers(replace(evidence(), state=state))["held now"] is answer


def test_what_the_journal_has_beside_lines_is_passed_over():
    """Bytes that are not UTF-8 are read; what has no time, no text or is cut is not."""
    text = "\n".join(
        [
            json.dumps({"MESSAGE": [101, 116, 104, 48, 58, 255], "__MONOTONIC_TIMESTAMP": "5"}),
            json.dumps({"MESSAGE": None, "SYSLOG_IDENTIFIER": "x"}),
            json.dumps({"__MONOTONIC_TIMESTAMP": "5"}),
            json.dumps(["MESSAGE"]),
            '{"MESSAGE": "cut',
            "",
        ]
    )

    assert [each.text for each in parse_journal(text)] == ["eth0:\N{REPLACEMENT CHARACTER}"]


def test_never_is_no_time():
    """systemd writes 0 for what did not happen in this boot."""
    assert [(each.name, each.started, each.ended) for each in parse_units(UNITS)] == [
        ("failshut.service", 2.310001, 2.420017),
        ("systemd-networkd.service", 3.0002, None),
        ("NetworkManager.service", None, None),
    ]
