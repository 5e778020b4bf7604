"""The monitor's decisions: a tunnel's health by looks, what is drift, what is said and how often."""

from __future__ import annotations

import fcntl
import json
import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failshut.host.locks import is_held
from failshut.host.network.doorbells import Change, Transaction
from failshut.host.service.journal import log
from failshut.host.service.notify import notify, watchdog_seconds
from failshut.model.lock import LockState
from failshut.monitor.lock.drift import describe, describe_changes, uneven
from failshut.monitor.lock.listings import can_be_later, deviations, for_devices, own_devices, table_of, without_strangers
from failshut.monitor.places import Places
from failshut.monitor.state import Carries, Event, Kind, Reason, State, Tunnel
from failshut.monitor.telling.notices import Limit, notice_of, with_held
from failshut.monitor.telling.outlets import Outlets, status_json
from failshut.monitor.tunnels.health import BAD_LOOKS, GOOD_LOOKS, Health, Look, judge, step

UP = Health(Tunnel("wg0", Carries.UP))
WELL, SILENT = Look(handshake_age=20), Look(handshake_age=400, network=True, refused=False)

STAGED = """\
table netdev failshut {
}

# device eth0
table netdev failshut {
	chain egress-eth0 { type filter hook egress device "eth0" priority 0; policy drop; }
}

# device LATER-DEVICE
table netdev failshut {
	chain egress-LATER-DEVICE { type filter hook egress device "LATER-DEVICE" priority 0; policy drop; }
}
"""

LISTED = """\
table netdev failshut {
	counter under-ip {
	}

	chain egress-eth0 {
		type filter hook egress device "eth0" priority filter; policy drop;
		jump admit comment "admit"
		drop comment "shut"
	}

	chain admit {
		meta mark 0x1b42932e accept comment "stamped"
	}
}
"""
USB = """
	chain egress-usb0 {
		type filter hook egress device "usb0" priority filter; policy drop;
		jump admit comment "admit"
		drop comment "shut"
	}
"""


def after(health, *looks):
    """Return the health after some looks."""
    for look in looks:
        health = step(health, look, 1000.0)
    return health


@pytest.mark.parametrize(
    ("look", "reason"),
    [
        (Look(there=False, up=False), Reason.NO_DEVICE),
        (Look(up=False, handshake_age=3), Reason.NOT_UP),
        (replace(SILENT, network=False, refused=True), Reason.NO_NETWORK),
        (replace(SILENT, refused=True), Reason.BLOCKED),
        (SILENT, Reason.NO_HANDSHAKE),
        (Look(handshake_age=None, network=True), Reason.NO_HANDSHAKE),
        (replace(WELL, routed=False, resolved=False), Reason.NO_ROUTE),
        (replace(WELL, routed=True, resolved=False), Reason.NO_DNS),
        (replace(WELL, routed=True, resolved=True), Reason.NONE),
        (WELL, Reason.NONE),
        (Look(wireguard=False), Reason.NONE),
    ],
)
def test_a_tunnel_that_carries_nothing_has_the_first_cause_as_its_reason(look, reason):
    assert judge(look) is reason


def test_one_bad_look_is_no_outage_and_one_good_look_no_recovery():
    suspected = after(UP, SILENT)

    assert suspected.tunnel.carries is Carries.UP
    assert not suspected.is_calm
    assert after(UP, SILENT, WELL, SILENT, WELL).tunnel.carries is Carries.UP
    down = after(UP, *[SILENT] * BAD_LOOKS)
    assert (down.tunnel.carries, down.tunnel.reason) == (Carries.DOWN, Reason.NO_HANDSHAKE)
    assert after(down, *[WELL] * (GOOD_LOOKS - 1)).tunnel.carries is Carries.DOWN
    assert after(down, *[WELL] * GOOD_LOOKS).tunnel.carries is Carries.UP


def test_a_device_that_is_gone_is_down_at_once():
    assert after(UP, Look(there=False, up=False)).tunnel.reason is Reason.NO_DEVICE


def test_another_reason_does_not_count_as_another_state():
    down = after(UP, SILENT, SILENT)

    assert after(down, replace(SILENT, network=False)).tunnel == replace(down.tunnel, reason=Reason.NO_NETWORK)


@given(st.lists(st.booleans(), max_size=60))
def test_the_state_never_changes_more_often_than_the_looks_allow(goods):
    """Between two changes lie at least as many looks as a change needs."""
    health, changed = UP, -GOOD_LOOKS
    for at, good in enumerate(goods):
        before, health = health, step(health, WELL if good else SILENT, float(at))
        if health.tunnel.carries is not before.tunnel.carries:
            assert at - changed >= min(GOOD_LOOKS, BAD_LOOKS)
            changed = at


def test_a_listing_that_is_as_wanted_deviates_in_nothing():
    assert deviations(LISTED, LISTED, {"eth0"}) == ()
    assert table_of(LISTED) == ("netdev", "failshut")


def test_the_chain_of_a_later_device_is_no_drift_when_it_is_like_the_others():
    with_usb = LISTED.replace("\n\tchain admit", f"{USB}\n\tchain admit")

    assert deviations(LISTED, with_usb, {"eth0", "usb0"}) == ()
    assert without_strangers(LISTED, with_usb) == ""
    open_usb = with_usb.replace('"usb0" priority filter; policy drop;\n', '"usb0" priority filter; policy drop;\n\t\taccept\n')
    assert deviations(LISTED, open_usb, {"eth0", "usb0"}) == ("chain egress-usb0 was added",)
    assert "delete chain netdev failshut egress-usb0\n" in without_strangers(LISTED, open_usb)


def test_the_chain_of_a_later_device_is_missed_and_never_taken_out():
    """The load fills it again; taken out after that, it would leave the device open."""
    with_usb = LISTED.replace("\n\tchain admit", f"{USB}\n\tchain admit")
    changed = with_usb.replace('"usb0" priority filter; policy drop;\n', '"usb0" priority filter; policy drop;\n\t\taccept\n')
    there, later = {"eth0", "usb0"}, ("usb0",)

    assert deviations(LISTED, changed, there, later) == ("chain egress-usb0 was changed",)
    assert without_strangers(LISTED, changed, later) == ""
    assert deviations(LISTED, LISTED, there, later) == ("chain egress-usb0 is gone",)
    assert deviations(LISTED, LISTED, {"eth0"}, later) == ()
    renamed = changed.replace('device "usb0"', 'device "enx1"')
    assert "delete chain netdev failshut egress-usb0\n" in without_strangers(LISTED, renamed, later), "it hangs on another"


def test_a_chain_may_be_away_with_its_device_and_only_then():
    without = LISTED.replace(LISTED[LISTED.index("\tchain egress") : LISTED.index("\tchain admit")], "")

    assert deviations(LISTED, without, {"lo"}) == ()
    assert deviations(LISTED, without, {"eth0"}) == ("chain egress-eth0 is gone",)


def test_what_was_changed_is_said_without_the_stamp():
    changed = LISTED.replace("\t\tmeta mark", '\t\taccept comment "mine"\n\t\tmeta mark').replace(
        "0x1b42932e accept", "0x1b42932e drop"
    )

    said = deviations(LISTED, changed, {"eth0"})

    assert 'chain admit: + accept comment "mine"' in said
    assert not any("1b42932e" in each for each in said)


def test_a_staged_text_has_the_devices_that_are_there_and_those_that_came_later():
    text = for_devices(STAGED, {"eth0", "usb0"}, ("usb0", "usb1", "eth0"))

    assert [text.count(f'"{each}"') for each in ("eth0", "usb0", "usb1", "LATER-DEVICE")] == [1, 1, 0, 0]
    assert "chain egress-usb0 {" in text
    assert own_devices(STAGED) == ("eth0",)
    assert can_be_later(STAGED)
    assert not can_be_later("table netdev failshut {\n}\n")


def test_rules_that_are_replaced_are_no_change_and_one_more_or_fewer_is():
    new = Change("new", "rule", "inet", "failshut", "output")
    gone, foreign = replace(new, verb="delete"), replace(new, table="mine")

    assert uneven({new: 9, gone: 9, foreign: 3, replace(new, what="chain"): 1}, "failshut") == {}
    assert uneven({replace(new, family="netdev"): 2}, "failshut") == {}
    assert list(describe_changes(uneven({new: 10, gone: 9}, "failshut"))) == ["chain output: 1 rule(s) added"]
    assert list(describe_changes(uneven({gone: 9}, "failshut"))) == ["chain output: 9 rule(s) removed"]


def test_a_process_is_described_only_while_it_is_there_and_still_the_same(tmp_path):
    change = Transaction({}, 77, "nft")
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[4026531836]")
    assert describe(change, tmp_path) == {"process": "nft", "pid": "77"}
    (tmp_path / "77").mkdir()
    (tmp_path / "77/comm").write_text("nft\n")
    (tmp_path / "77/cmdline").write_bytes(b"nft\0flush\0ruleset\0")
    (tmp_path / "77/status").write_text("Name:\tnft\nUid:\t1000\t0\t0\t0\n")

    assert describe(change, tmp_path) == {"process": "nft", "pid": "77", "command": "nft flush ruleset", "uid": "1000"}
    (tmp_path / "77/comm").write_text("vim\n")
    assert "command" not in describe(change, tmp_path)


def test_a_file_is_held_as_long_as_somebody_has_it_locked(tmp_path):
    path = tmp_path / "lock"
    assert not is_held(path)
    with path.open("w") as file:
        assert not is_held(path)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(path)
    assert not is_held(path)


def test_the_service_manager_is_told_where_it_asks_to_be(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        assert notify("READY=1", "STATUS=watching", environment={"NOTIFY_SOCKET": address})
        assert manager.recv(999) == b"READY=1\nSTATUS=watching"
    assert not notify("READY=1", environment={"NOTIFY_SOCKET": address})
    assert not notify("READY=1", environment={})
    assert watchdog_seconds({"WATCHDOG_USEC": "60000000"}) == 60
    assert watchdog_seconds({}) is None


def test_the_journal_gets_fields_and_a_line_break_stays_inside_its_field(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "socket"))
        assert log("one\ntwo", 4, {"FAILSHUT_EVENT": "drift"}, to=tmp_path / "socket")
        entry = journald.recv(9999)

    assert entry.startswith(b"MESSAGE\n" + (7).to_bytes(8, "little") + b"one\ntwo\n")
    assert b"PRIORITY=4\nSYSLOG_IDENTIFIER=failshut\nFAILSHUT_EVENT=drift\n" in entry


def test_a_flood_of_events_is_said_a_few_times_and_then_counted():
    limit = Limit(most=2, within=60)

    assert [limit.admit("drift", now) for now in (0, 1, 2, 3)] == [0, 0, None, None]
    assert limit.admit("tunnel", 3) == 0
    assert limit.admit("drift", 61) == 2
    assert with_held("changed", 2) == "changed (2 more like it were not said)"


def test_a_tunnel_that_is_back_takes_the_place_of_its_notice():
    down = notice_of(Event(Kind.TUNNEL_DOWN, 0, "wg0 is down: its server does not answer", {"tunnel": "wg0"}))
    back = notice_of(Event(Kind.TUNNEL_UP, 0, "wg0 carries data again", {"tunnel": "wg0"}))

    assert down.slot == back.slot
    assert down.urgency > back.urgency
    assert notice_of(Event(Kind.STARTED, 0, "")) is None


def test_the_status_file_is_one_line_that_waybar_reads_and_holds_no_secret(tmp_path):
    down = Tunnel("wg0", Carries.DOWN, Reason.NO_DNS, endpoint="203.0.113.10:51820")
    event = Event(Kind.DRIFT, 0, "chain admit: - meta mark 0x1b42932e accept", {"command": "nft flush ruleset"})
    state = State(LockState.ARMED, tunnels=(down,), events=(event,))
    outlets = Outlets(Places(tmp_path))

    assert outlets.publish(state) == ""

    text = (tmp_path / "status.json").read_text()
    assert text.count("\n") == 1
    assert json.loads(text)["text"] == json.loads(text)["class"] == "locked"
    assert "no resolver answers" in json.loads(text)["tooltip"]
    assert not any(each in text for each in ("203.0.113", "mark", "flush"))
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o644
    assert status_json(State(LockState.DRIFT, tunnels=(down,)))["text"] == "drift"


def test_the_list_of_events_never_grows_beyond_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("failshut.monitor.telling.outlets.MOST_EVENTS", 4000)
    outlets = Outlets(Places(tmp_path))
    for number in range(200):
        assert outlets.record(Event(Kind.DRIFT, number, f"number {number}")) == ""

    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len("\n".join(lines)) < 4500
    assert json.loads(lines[-1])["message"] == "number 199"
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600


def test_files_that_cannot_be_written_are_said_and_no_more(tmp_path):
    outlets = Outlets(Places(tmp_path / "absent"))

    assert "can't be written" in outlets.publish(State())
    assert "can't be written" in outlets.record(Event(Kind.DRIFT, 0, ""))
