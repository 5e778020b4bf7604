"""Readers of tunnels' configs, held against OpenVPN itself and against whatever a file may hold."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from failshut.config.formats.openvpn_words import split
from failshut.config.formats.recognise import read_tunnel
from failshut.config.formats.tunnel_config import TunnelConfig
from failshut.emit.tunnel_marks import mark_of_ours, with_mark, without_mark
from failshut.model.finding import Finding
from failshut.model.policy import TunnelKind
from failshut.model.units import Mark

KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
_WORDS = st.sampled_from(
    [
        *(
            "client",
            "dev tun0",
            "dev tap",
            "remote 203.0.113.10 1194",
            "remote vpn.example.com",
            "proto tcp",
            "port 99999",
            "mark 5",
        ),
        *(
            "<connection>",
            "</connection>",
            "<ca>",
            "</ca>",
            "user nobody",
            "float",
            "config x",
            'setenv A "b',
            "\\",
            "# x",
            "\ufeff",
        ),
        *("[NetDev]", "Name=wg0", "Kind=wireguard", "[WireGuard]", f"PrivateKey={KEY}", "FirewallMark=0x1", "[WireGuardPeer]"),
        *(f"PublicKey={KEY}", "Endpoint=203.0.113.10:51820", "AllowedIPs=0.0.0.0/0, ::/0", "RouteTable=x", "a \\", "[Match]"),
        *("[connection]", "type=wireguard", "interface-name=wg0", "[wireguard]", f"private-key={KEY}", f"[wireguard-peer.{KEY}]"),
        *("endpoint=a:1", "allowed-ips=0.0.0.0/0;", "fwmark=7", "[ipv4]", "address1=10.0.0.2/32,10.0.0.1", "[Interface]", "[Peer]"),
    ]
)
_TEXTS = st.lists(st.one_of(_WORDS, st.text(max_size=20)), max_size=14).map("\n".join)
MARKS = st.integers(1, 0x7FFFFFFF).map(Mark)


@given(_TEXTS)
@settings(max_examples=400)
def test_any_text_gives_a_config_or_findings_with_a_place(text):
    """Nothing raises, a finding points into the file, and no key is shown."""
    found = read_tunnel(text, "x")
    if isinstance(found, TunnelConfig):
        shown = [*found.remarks]
    else:
        shown = found
        assert found
    lines = text.count("\n") + 1
    assert all(isinstance(each, Finding) and 0 <= each.place.line <= lines for each in shown)
    assert not any(KEY in f"{each.message}{each.source}" for each in shown)


@given(_TEXTS.filter(lambda text: "[wireguard]" in text.split("\n") or "failshut" not in text), MARKS, st.sampled_from(TunnelKind))
@settings(max_examples=300)
@example("\ufeffclient\n", Mark(1), TunnelKind.OPENVPN)
@example("[wireguard]\r\nprivate-key=x\r\n", Mark(7), TunnelKind.NETWORK_MANAGER)
@example("[Interface]\n\r\nclient", Mark(1), TunnelKind.WG_QUICK)
@example("[wireguard]\n\r\nclient", Mark(1), TunnelKind.NETWORK_MANAGER)
def test_our_line_goes_as_it_came(text, mark, kind):
    """Written and taken out again, every other byte is what it was; written twice, it is there once."""
    try:
        marked = with_mark(kind, text, mark)
    except ValueError:
        assert kind in (TunnelKind.WG_QUICK, TunnelKind.NETWORK_MANAGER)
        return

    assert mark_of_ours(marked) == mark
    assert with_mark(kind, marked, mark) == marked
    if kind is not TunnelKind.NETWORKD:
        assert without_mark(marked).rstrip("\r\n") == text.rstrip("\r\n")
    else:
        assert without_mark(marked) == ""


@given(st.text(alphabet="ab \t\"'\\#;<>", max_size=24))
def test_words_are_what_the_reader_of_one_letter_at_a_time_finds(line):
    """The expression against OpenVPN's own state machine, written out."""
    assert split(line) == _parse_line(line)


def _parse_line(line):  # noqa: C901, PLR0912 - OpenVPN's own shape
    """Return the words as options_parse.c's parse_line finds them."""
    words, word, state, escaped = [], "", "initial", False
    for each in [*line, "\0"]:
        if not escaped and each == "\\" and state != "single":
            escaped = True
            if state == "initial":
                state = "word"
            continue
        if state == "initial" and not (each.isspace() or each == "\0"):
            if not escaped and each in ";#":
                break
            state = "double" if each == '"' and not escaped else "single" if each == "'" and not escaped else "word"
            word = each if state == "word" else ""
        elif state == "word":
            if not escaped and (each.isspace() or each == "\0"):
                words, word, state = [*words, word], "", "initial"
            else:
                word += each
        elif state in ("double", "single"):
            if each == "\0":
                return None
            if not escaped and each == {"double": '"', "single": "'"}[state]:
                words, word, state = [*words, word], "", "initial"
            else:
                word += each
        if escaped and each == "\0":
            return None
        escaped = False
    return words


ORACLE = [
    "remote 203.0.113.10",
    "proto tcp\nremote 203.0.113.10 5\nremote 203.0.113.11 6 udp\nport 7",
    "port 9\n<connection>\nremote 203.0.113.10\n</connection>\nport 8\n<connection>\nremote 203.0.113.11 1 tcp\n</connection>",
    "remote 203.0.113.99\n<connection>\nport 7\nremote 203.0.113.10\n</connection>",
    "mark 51820 # failshut\nrport 12\nremote '203.0.113.10'",
    "setenv opt remote 203.0.113.10 77 tcp4",
]


@pytest.mark.skipif(not shutil.which("openvpn"), reason="openvpn is not installed: it can't be asked")
@pytest.mark.parametrize("lines", ORACLE)
def test_openvpn_itself_agrees(lines, tmp_path):
    """The oracle: the connection profiles that OpenVPN prints of the same file."""
    file = tmp_path / "client.ovpn"
    # It shows its settings, and goes no further: there is no such authority.
    file.write_text(f"client\ndev tun0\nca missing\nauth-user-pass missing\nverb 4\n{lines}\n")
    text = file.read_text()
    ours = read_tunnel(text, str(file))
    assert isinstance(ours, TunnelConfig)

    (tmp_path / "missing").write_text("x\ny\n")
    (tmp_path / "missing").chmod(0o600)
    done = subprocess.run(["openvpn", "--config", str(file)], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)

    theirs = re.findall(r" proto = (\w+?)(?:-client|[46])*\n.* remote = '(.*)'\n.* remote_port = '(.*)'", _profiles(done.stdout))
    assert theirs == [(str(each.site.protocol), str(each.site.address), str(int(each.site.port))) for each in ours.remotes]


def _profiles(said):
    """Return the lines that matter, beside each other."""
    wanted = (" proto = ", " remote = ", " remote_port = ")
    return "".join(f"{line}\n" for line in said.splitlines() if any(each in line for each in wanted))
