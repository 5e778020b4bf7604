"""The parts of a sign-in that need no network: DNS on the wire, what a probe's sight means, leases, browsers."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failshut.allowances.launch import resolv_conf
from failshut.allowances.portal import browser
from failshut.allowances.portal.dns import answers
from failshut.allowances.portal.verdict import PROBE_URL, Seen, Verdict, judge, seen, sign_in_page
from failshut.emit.dns import AAAA, A, question
from failshut.host.filter.programs import Element, parse_elements
from failshut.host.network.resolvers import addresses, parse_assignments, parse_leases
from failshut.host.service.cgroups import cgroup2_mounts

ROUTER = ip_address("192.168.50.1")
LEASES = """\
lease {
  interface "eth0";
  fixed-address 192.168.50.2;
  option domain-name-servers 192.168.50.9;
}
lease {
  interface "wlan0";
  option domain-name-servers 10.0.0.1;
}
lease {
  interface "eth0";
  option domain-name-servers 192.168.50.1, 192.168.50.3;
}
"""


def response(number: int, *records: tuple[int, bytes]) -> bytes:
    asked = question(number, "a.example", A)
    wire = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 5, len(data)) + data for kind, data in records)
    return asked[:2] + struct.pack("!5H", 0x8180, 1, len(records), 0, 0) + asked[12:] + wire


def test_an_answers_addresses_are_read_and_its_aliases_passed_over():
    """A and AAAA records count, a CNAME between them does not; another query's answer is none."""
    message = response(7, (5, b"\1b\xc0\x0e"), (A, ROUTER.packed), (AAAA, ip_address("fd50::1").packed))

    assert answers(message, 7) == (ROUTER, ip_address("fd50::1"))
    assert answers(message, 8) is None
    assert answers(response(7), 7) == ()


@given(st.binary(max_size=200), st.integers(0, 65535))
def test_no_message_breaks_the_reader(message, number):
    """Whatever a resolver sends is read as far as it goes or not at all."""
    assert answers(message, number) is None or isinstance(answers(message, number), tuple)


@given(st.integers(0, 90))
def test_a_message_that_is_cut_is_no_answer(length):
    message = response(7, (A, ROUTER.packed), (A, ROUTER.packed))

    assert length >= len(message) or answers(message[:length], 7) is None


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Seen(), Verdict.NO_NAME),
        (Seen("192.0.2.1", error="timed out"), Verdict.SILENT),
        (Seen("192.0.2.1", 204), Verdict.OPEN),
        (Seen("192.0.2.1", 204, body=True), Verdict.PORTAL),
        (Seen("192.0.2.1", 200, body=True), Verdict.PORTAL),
        (Seen("192.0.2.1", 302, "http://192.0.2.1/login"), Verdict.PORTAL),
        (Seen("192.0.2.1", 511, body=True), Verdict.PORTAL),
    ],
)
def test_only_an_empty_204_is_the_page_itself(found, verdict):
    """Everything else that answers is a portal; who does not answer is none."""
    assert judge(found) is verdict


@pytest.mark.parametrize(
    ("location", "page"),
    [
        ("http://192.0.2.1/login?x=1", "http://192.0.2.1/login?x=1"),
        ("https://hotel.example/", "https://hotel.example/"),
        ("/login", "http://cp.cloudflare.com/login"),
        ("", PROBE_URL),
        ("file:///etc/passwd", PROBE_URL),
        ("javascript:alert(1)", PROBE_URL),
        ("http://192.0.2.1/ --proxy-server=evil", PROBE_URL),
        ("http://", PROBE_URL),
        ("http://[", PROBE_URL),
        ("//a]b/", PROBE_URL),
    ],
)
def test_a_browser_is_led_to_web_pages_only(location, page):
    """Where a portal leads is a stranger's word, and becomes an argument: nothing but http and https, in one printable word."""
    assert sign_in_page(Seen("192.0.2.1", 302, location), PROBE_URL) == page


@given(st.one_of(st.text(max_size=50), st.text("htp:/[]@%\u2100.", max_size=20)))
def test_no_page_can_be_an_option(location):
    """Whatever a portal says, what the browser is told begins as a page does."""
    assert sign_in_page(Seen("192.0.2.1", 302, location), PROBE_URL).startswith(("http://", "https://"))


@pytest.mark.parametrize("text", ["", "{}", "null", '{"status": 204', '{"unknown": 1}'])
def test_a_probe_that_says_nothing_saw_nothing(text):
    assert judge(seen(text)) is Verdict.NO_NAME


def test_what_a_probe_says_is_read_as_it_was_said():
    found = Seen("192.0.2.1", 302, "http://x/", body=True)

    assert seen(found.to_json()) == found


def test_each_devices_last_lease_counts():
    """dhclient appends: the newest lease stands last, and another device's is not this one's."""
    assert parse_leases(LEASES, ("eth0",)) == (ROUTER, ip_address("192.168.50.3"))
    assert parse_leases(LEASES, ("eth1",)) == ()
    assert parse_leases(LEASES[:40], ("eth0",)) == ()


def test_assignments_are_read_with_and_without_quotes():
    """networkd's leases have none, dhcpcd's dump has."""
    text = "ADDRESS=192.168.50.2\nDNS=192.168.50.1 fd50::1\ndomain_name_servers='10.0.0.1'\n"

    assert list(parse_assignments(text, "DNS")) == [ROUTER, ip_address("fd50::1")]
    assert list(parse_assignments(text, "domain_name_servers")) == [ip_address("10.0.0.1")]


def test_what_is_no_address_is_passed_over():
    """A scoped address can't be told to nft; nmcli escapes the colons of its own."""
    assert list(addresses("192.168.50.1 | fe80::1%eth0, name fd50\\:\\:1")) == [ROUTER, ip_address("fd50::1")]


def test_elements_are_read_with_and_without_a_deadline():
    """nft lists an element with a deadline as an object of its own."""
    text = """{"nftables": [{"metainfo": {}}, {"set": {"name": "x", "elem": [
        "failshut.slice/failshut-outside.slice", {"elem": {"val": "y", "timeout": 300, "expires": 299}}]}}]}"""

    assert list(parse_elements(text)) == [Element("failshut.slice/failshut-outside.slice"), Element("y", 299)]


def test_cgroup_v2_is_found_wherever_it_is_mounted():
    """Beside the groups of version 1 too; the shortest path first."""
    text = (
        "30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw\n"
        "31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "32 25 0:28 / /sys/fs/cgroup rw shared:6 master:1 - cgroup2 none rw\n"
    )

    assert list(cgroup2_mounts(text)) == [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]


def test_a_browser_by_name_gets_a_profile_and_a_command_only_the_page():
    """Of a known browser we know how to say it; of a command with words of its own we do not."""
    profile = Path("/run/profile")

    assert browser.given("firefox").words(profile, "http://x/")[-3:] == ["--profile", "/run/profile", "http://x/"]
    assert "--user-data-dir=/run/profile" in browser.given("/usr/bin/chromium").words(profile, "http://x/")
    assert browser.given("curl -sL").words(profile, "http://x/") == ["curl", "-sL", "http://x/"]
    assert browser.given("'") is None
    assert browser.given(" ") is None


def test_a_throw_away_browser_asks_nobody_inside(tmp_path):
    """No session bus, no configuration of the user's, a home of its own; the display is kept."""
    given_to = {"HOME": "/home/alice", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/x", "XDG_CONFIG_HOME": "/y", "DISPLAY": ":0"}

    assert browser.private(given_to, tmp_path) == {"HOME": str(tmp_path), "DISPLAY": ":0"}


def test_without_a_display_only_browsers_of_the_terminal_are_found(tmp_path):
    """A snap is passed over: it would move itself into a group of the session's, inside."""
    for name, text in (("firefox", "#!/bin/sh\nexec /snap/bin/firefox\n"), ("chromium", "#!/bin/sh\n"), ("w3m", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = {"PATH": str(tmp_path)}

    assert browser.find(path).command == (str(tmp_path / "w3m"),)
    assert browser.find({**path, "DISPLAY": ":0"}).command == (str(tmp_path / "chromium"),)
    assert browser.find({"PATH": ""}) is None


def test_resolv_conf_names_each_resolver():
    lines = resolv_conf((ROUTER, ip_address("fd50::1"))).splitlines()

    assert lines[1:] == ["nameserver 192.168.50.1", "nameserver fd50::1"]
