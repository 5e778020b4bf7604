"""The two readers on arbitrary and on damaged files: a value or findings, never an exception, never a key."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from failshut.config.declaration import Declaration, Sources
from failshut.config.draft import Draft, LanOffer, Pin, SshOffer, write
from failshut.config.formats.wgquick import WgQuickConfig, read
from failshut.config.policy_file import parse
from failshut.config.resolve import resolve
from failshut.model.finding import Finding
from failshut.model.units import Endpoint, InterfaceName, Mark, NamedEndpoint, Port

KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
EXAMPLES = Path(__file__).parents[2] / "src/failshut/examples"
POLICY = (EXAMPLES / "example.toml").read_text()
CONFIG = (EXAMPLES / "wg0.conf").read_text()

# What people put where something else belongs.
TOML_VALUES = [
    "1",
    "-1",
    "true",
    '""',
    '"*"',
    '"a b"',
    "[]",
    "[[]]",
    "{}",
    "1.5",
    "nan",
    "1979-05-27",
    '["0.0.0.0/0"]',
    '"\\u001b[2J"',
    "{a.b = 1}",
]
TOML_LINES = [
    "[allow]",
    "[[allow.inbound]]",
    "[tunnel]",
    "[tunnel.wg1]",
    "[outside]",
    "[[tunnel]]",
    "x = 1",
    "'' = 1",
    "through = 'a'",
    "endpoints = ['a.b:1']",
]
WG_LINES = [
    "[Interface]",
    "[Peer]",
    "[Pear]",
    "FwMark = 0x",
    "Endpoint = [::1:5",
    "AllowedIPs = ,",
    "Address",
    "= =",
    "#",
    "MTU = 99999999999999999999",
    f"PrivateKey = {KEY}",
]


@st.composite
def damaged(draw, text, lines, values):
    """Return a sound file with up to four lines dropped, doubled, swapped, retyped or cut."""
    rows = text.split("\n")
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(rows) - 1, 0)))
        match draw(st.sampled_from(["drop", "double", "insert", "value", "cut", "character"])):
            case "drop":
                del rows[at : at + 1]
            case "double":
                rows[at:at] = rows[at : at + 1]
            case "insert":
                rows.insert(at, draw(st.sampled_from(lines)))
            case "value" if rows and "=" in rows[at]:
                rows[at] = rows[at].split("=")[0] + "= " + draw(st.sampled_from(values))
            case "cut" if rows:
                rows[at] = rows[at][: draw(st.integers(0, len(rows[at])))]
            case _ if rows:
                place = draw(st.integers(0, len(rows[at])))
                rows[at] = rows[at][:place] + draw(st.characters()) + rows[at][place:]
    return "\n".join(rows)


def assert_presentable(findings):
    """Require a message, a place within a line, and nothing that a terminal would obey."""
    for each in findings:
        assert isinstance(each, Finding)
        assert each.message
        assert (each.message + each.help + each.source).isprintable()
        assert each.place.line == 0 or (each.place.column >= 1 and each.place.length >= 1)


def check_policy(text):
    """Run a text through both phases, without fetching anything."""
    read_ = parse(text, "p.toml")
    if isinstance(read_, Declaration):
        checked = resolve(read_, Sources())
        assert (checked.policy is None) == bool(checked.errors)
        assert_presentable(checked.findings)
    else:
        assert read_
        assert_presentable(read_)


@settings(deadline=None)
@given(st.one_of(st.binary(), st.text()))
@example("a" * 5000 + " = 1")
@example("a = " + "{a = " * 300 + "1" + "}" * 300)
@example("a" + ".a" * 5000 + " = 1")
@example(b"\xef\xbb\xbf[tunnel.wg0]\nx = '\xff'")
@example("[tunnel]\n")
@example("tunnel = [[]]\n")
@example('[tunnel.""]\n')
def test_any_bytes_are_a_policy_or_findings(text):
    """Whatever lies in /etc/failshut/failshut.toml, `check` answers with findings."""
    check_policy(text)


@settings(deadline=None)
@given(damaged(POLICY, TOML_LINES, TOML_VALUES))
def test_a_damaged_policy_is_a_policy_or_findings(text):
    """Close to a sound file is where the readers' deeper paths are."""
    check_policy(text)


@given(st.one_of(st.binary(), st.text()))
def test_any_bytes_are_a_config_or_findings(text):
    """Whatever a provider hands out, the reader answers."""
    found = read(text, "wg0.conf")

    assert isinstance(found, WgQuickConfig) or found
    assert_presentable([] if isinstance(found, WgQuickConfig) else found)


@settings(deadline=None)
@given(damaged(CONFIG, WG_LINES, ["", "off", "0x", "x", "10.0.0.0/99", "[::]:1", KEY[:-1], KEY]))
@example(CONFIG + f"[Peer]\nEndpoint = 0 {KEY}\n")
def test_a_damaged_config_is_a_config_or_findings_and_shows_no_key(text):
    """A key that slipped into another line must not be printed with it."""
    found = read(text, "wg0.conf")

    assert isinstance(found, WgQuickConfig) or found
    assert_presentable([] if isinstance(found, WgQuickConfig) else found)
    assert KEY not in repr(found)


@pytest.mark.skipif(not shutil.which("wg"), reason="wg is not installed: its own parser can't be asked")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(damaged(CONFIG, WG_LINES, ["", "off", "0x7", "x", "10.0.0.0/9", "[2001:db8::1]:1", KEY[:-1], KEY]))
def test_what_the_reader_accepts_wg_accepts(text):
    """The oracle is wg's own parser: a config that wg refuses must never pass as sound."""
    found = read(text, "wg0.conf")
    assume(isinstance(found, WgQuickConfig))
    assume(not any(isinstance(each.endpoint, NamedEndpoint) for each in found.peers))
    with tempfile.TemporaryDirectory() as folder:
        file, stripped = Path(folder, "fs0.conf"), Path(folder, "stripped")
        file.write_bytes(text.encode("utf-8", errors="replace"))
        stripped.write_bytes(subprocess.run(["wg-quick", "strip", str(file)], capture_output=True, check=True).stdout)
        asked = ["wg", "setconf", "failshut-none", str(stripped)]
        quick = {**os.environ, "WG_ENDPOINT_RESOLUTION_RETRIES": "0"}
        answer = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False, env=quick)

    assert "Unable to modify interface" in answer.stderr, answer.stderr


IPV4_LAN = IPv4Network("10.20.0.0/16")
names = st.from_regex(r"[a-z][a-z0-9_-]{0,14}", fullmatch=True).filter(lambda name: name not in ("lo", "all", "default"))
addresses = st.one_of(
    st.integers(0x01000000, 0x7EFFFFFF).map(IPv4Address),
    st.integers(0x2001 << 112, (0x3FFF << 112) - 1).map(IPv6Address),
)
endpoints = st.builds(Endpoint, addresses, st.integers(1, 65535).map(Port))


@given(st.lists(endpoints, min_size=1, max_size=5), st.integers(0, 0xFFFFFFFF), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_a_generated_config_reads_back(given_endpoints, mark, shout, ending):
    """What is written is what is read, in any case and with any line end."""
    lines = ["[Interface]", f"FwMark = {mark:#x}", "Address = 10.99.0.2/32"]
    for each in given_endpoints:
        lines += ["[Peer]", f"PublicKey = {KEY}", f"Endpoint = {each}", "AllowedIPs = 0.0.0.0/0, ::/0"]
    text = ending.join(
        line.split("=")[0].upper() + "=" + line.split("=", 1)[1] if shout and "=" in line else line for line in lines
    )
    found = read(text, "wg0.conf")

    assert isinstance(found, WgQuickConfig)
    assert [each.endpoint for each in found.peers] == given_endpoints
    assert (found.fwmark or 0) == mark


@settings(deadline=None)
@given(
    names,
    st.lists(endpoints, min_size=1, max_size=5, unique=True),
    st.one_of(st.none(), st.integers(1, 0xFFFFFF).map(Mark)),
    st.booleans(),
    st.booleans(),
)
def test_a_generated_policy_reads_back(name, given_endpoints, mark, lan_accepted, ssh_accepted):
    """What `init` writes is what `check` reads, whatever was adopted."""
    networks = tuple(each.address for each in given_endpoints)
    assume(all(each not in IPV4_LAN for each in networks))
    draft = Draft(
        InterfaceName(name),
        "2026-11-22",
        endpoints=tuple(Pin(each, "vpn.example.com") for each in given_endpoints),
        fwmark=mark,
        lan=LanOffer("eth0", (IPV4_LAN,)),
        lan_accepted=lan_accepted,
        ssh=SshOffer(Port(22), IPV4_LAN),
        ssh_accepted=ssh_accepted,
    )
    declaration = parse(write(draft), "p.toml")
    assert isinstance(declaration, Declaration)
    checked = resolve(declaration, Sources())

    assert not checked.errors
    assert checked.policy.tunnels[0].endpoints == tuple(given_endpoints)
    assert (checked.policy.tunnels[0].interface, checked.policy.tunnels[0].fwmark) == (name, mark)
    assert (checked.policy.lan is not None, bool(checked.policy.inbound)) == (lan_accepted, ssh_accepted)
