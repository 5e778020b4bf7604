"""From the policy's text to a declaration, or to findings with their place, cause and remedy."""

from __future__ import annotations

import pytest

from failshut.config.declaration import Declaration
from failshut.config.policy_file import parse
from failshut.config.schema import TABLES, Document, Table, json_schema, keys_of
from failshut.model.finding import Code
from failshut.model.units import Mark

TUNNEL = '[tunnel.wg0]\nendpoints = ["203.0.113.10:51820"]\n'
KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="


def findings(text):
    """Return every finding of a policy's text."""
    read = parse(text, "p.toml")
    return read if isinstance(read, list) else list(read.findings)


def only(text):
    """Return the one finding of a policy's text."""
    found = findings(text)
    assert len(found) == 1, found
    return found[0]


def test_a_sound_policy_has_no_findings():
    """What design.md shows, and this version enforces, is accepted as it stands."""
    text = """
[tunnel.wg0]
config = "/etc/wireguard/wg0.conf"
endpoints = ["203.0.113.10:51820", "[2001:db8::10]:51820", "tcp://203.0.113.10:1194", "vpn.example.com:51820"]
fwmark = 0xca6c
addresses = ["10.99.0.2/32", "fd99::2"]
[allow]
dhcp = true
ndp = true
[allow.lan]
prefixes = ["192.168.1.0/24"]
interfaces = ["eth0", "wl*"]
dns = false
multicast = false
[[allow.inbound]]
name = "ssh"
protocol = "tcp"
port = 22
from = ["192.168.1.0/24"]
[[allow.outbound]]
name = "ntp"
protocol = "udp"
to = ["192.0.2.123"]
port = 123
user = "root"
[forward]
mode = "block"
[log]
blocked = "count"
[backend]
use = "nftables"
"""
    declaration = parse(text, "/etc/failshut/failshut.toml")

    assert isinstance(declaration, Declaration)
    assert not declaration.findings
    assert declaration.files == ("/etc/wireguard/wg0.conf",)
    assert declaration.names == ("vpn.example.com",)
    assert declaration.users == ("root",)


@pytest.mark.parametrize(
    ("text", "code", "line", "words"),
    [
        ("", Code.EMPTY, 0, "init"),
        ("# only a comment\n\n", Code.EMPTY, 0, "init"),
        (b"\xff\xfea\x00", Code.NOT_TEXT, 0, "UTF-16"),
        (b"\x7fELF\x00\x01", Code.NOT_TEXT, 0, "not a policy"),
        (b"a = 1\nb = '\xe9'\n", Code.NOT_TEXT, 2, "UTF-8"),
        ("[tunnel.wg0\n", Code.NOT_TOML, 1, "alone on its line"),
        ("[allow]\ndhcp = yes\n", Code.NOT_TOML, 2, 'dhcp = "yes"'),
        ("[allow]\ndhcp = True\n", Code.NOT_TOML, 2, "write true"),
        ("a = 1\na = 2\n", Code.NOT_TOML, 2, "only once"),
        ("[allow]\n[allow]\n", Code.NOT_TOML, 2, "only once"),
        ('a = "', Code.NOT_TOML, 1, "in quotes"),
        ("a = " + "9" * 5000, Code.NOT_TOML, 0, "digits"),
        ("a = " + "[" * 9000 + "]" * 9000, Code.NOT_TOML, 0, ""),
        (TUNNEL + "fwmrk = 1\n", Code.UNKNOWN_KEY, 3, "did you mean 'fwmark'?"),
        (TUNNEL + "[alow]\n", Code.UNKNOWN_KEY, 3, "did you mean 'allow'?"),
        ("dhcp = true\n" + TUNNEL, Code.UNKNOWN_KEY, 1, "belongs in [allow]"),
        (TUNNEL + "[allow.lan]\nprefix = ['192.168.1.0/24']\nprefixes = ['192.168.1.0/24']", Code.UNKNOWN_KEY, 4, "prefixes"),
        (TUNNEL + "[[allow.inbound]]\nname = 'a'\n", Code.MISSING_KEY, 3, "port = 22"),
        (TUNNEL + "[allow]\ndhcp = 'yes'\n", Code.WRONG_TYPE, 4, "without quotes"),
        (TUNNEL + "[allow]\ndhcp = 1\n", Code.WRONG_TYPE, 4, "true"),
        (TUNNEL + "[allow]\nlan = '192.168.1.0/24'\n", Code.WRONG_TYPE, 4, ""),
        ("[tunnel]\nconfig = '/etc/wireguard/wg0.conf'\n", Code.WRONG_TYPE, 2, "[tunnel.wg0]"),
        ("[[tunnel]]\nname = 'wg0'\n", Code.WRONG_TYPE, 1, "[tunnel.wg0]"),
        (TUNNEL + "[allow.inbound]\nport = 22\n", Code.WRONG_TYPE, 3, "[[allow.inbound]]"),
        ("[tunnel.wg0]\nendpoints = '203.0.113.10:1'\n", Code.WRONG_TYPE, 2, '["203.0.113.10:1"]'),
        (TUNNEL + "[[allow.inbound]]\nname = 'a'\nport = '22'\n", Code.WRONG_TYPE, 5, "22"),
        (TUNNEL + "[[allow.inbound]]\nname = 'a'\nport = 70000\n", Code.BAD_VALUE, 5, "65535"),
        (TUNNEL + "[[allow.inbound]]\nname = 'lan'\nport = 7\n", Code.BAD_VALUE, 4, "my-lan"),
        (TUNNEL + "[[allow.inbound]]\nname = 'a b'\nport = 7\n", Code.BAD_VALUE, 4, "letters"),
        (TUNNEL + "[log]\nblocked = 'Count'\n", Code.BAD_VALUE, 4, 'did you mean "count"?'),
        ("[tunnel.'w g']\nendpoints = ['203.0.113.10:1']\n", Code.BAD_VALUE, 1, "1 to 15"),
        ("[tunnel.lo]\nendpoints = ['203.0.113.10:1']\n", Code.BAD_VALUE, 1, "ip link"),
        ("[tunnel.'wg*']\nendpoints = ['203.0.113.10:1']\n", Code.BAD_VALUE, 1, "1 to 15"),
        ("[tunnel.abcdefghijklmnop]\nendpoints = ['203.0.113.10:1']\n", Code.BAD_VALUE, 1, "1 to 15"),
        (TUNNEL + "[allow.lan]\nprefixes = ['192.168.1.7/24']\n", Code.BAD_VALUE, 4, '"192.168.1.0/24"'),
        (TUNNEL + "[allow.lan]\nprefixes = ['192.168.1.0/255.255.255.0']\n", Code.BAD_VALUE, 4, '"192.168.1.0/24"'),
        (TUNNEL + "[allow.lan]\nprefixes = ['192.168.1.0/33']\n", Code.BAD_VALUE, 4, "32"),
        (TUNNEL + "[allow.lan]\nprefixes = ['router.lan']\n", Code.BAD_VALUE, 4, "not a name"),
        (TUNNEL + "[allow.lan]\nprefixes = ['192.168.1.0/24']\ninterfaces = ['e*h']\n", Code.BAD_VALUE, 5, "wl*"),
        (TUNNEL + "[allow.lan]\nprefixes = ['192.168.1.0/24']\ninterfaces = ['*']\n", Code.BAD_VALUE, 5, "leave"),
        (TUNNEL + "[allow.lan]\nprefixes = ['192.168.1.0/24']\ninterfaces = ['eth0:1']\n", Code.BAD_VALUE, 5, "eth0"),
        (TUNNEL + "[allow.lan]\nprefixes = ['192.168.1.0/24']\ninterfaces = ['a\"b']\n", Code.BAD_VALUE, 5, "letters"),
        (TUNNEL + "[outside]\nslice = 'user.slice'\n", Code.TOO_WIDE, 4, "of its own"),
        (TUNNEL + "[outside]\nslice = 'failshut-portal.slice'\n", Code.TOO_WIDE, 4, "of its own"),
    ],
)
def test_each_mistake_is_found_where_it_is_with_a_remedy(text, code, line, words):
    """One mistake gives one finding: its code, its line, and words that help."""
    found = only(text)

    assert (found.code, found.place.line) == (code, line)
    assert words in found.help
    assert found.message


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("203.0.113.10", '"203.0.113.10:51820"'),
        ("[2001:db8::1]", '"[2001:db8::1]:51820"'),
        ("2001:db8::1:51820", '"[2001:db8::1]:51820"'),
        ("2001:db8:0:0:0:0:0:1", '"[2001:db8:0:0:0:0:0:1]:51820"'),
        ("203.0.113.10:0", "65535"),
        ("203.0.113.10:65536", "65535"),
        ("203.0.113.10:http", "65535"),
        ("203.0.113.10:٣", "65535"),
        ("203.0.113.256:51820", "255"),
        ("203.0.113.010:51820", "leading zeros"),
        ("0.0.0.0:51820", "VPN server"),
        ("224.0.0.1:51820", "VPN server"),
        ("[::ffff:203.0.113.10]:51820", "203.0.113.10"),
        ("[fe80::1%eth0]:51820", "global"),
        ("ws://203.0.113.10:51820", "tcp://"),
        ("vpn example:51820", "203.0.113.10"),
        ("bücher.example:51820", "xn--"),
        ("", "remove"),
    ],
)
def test_an_endpoint_that_can_not_be_one_says_what_to_write(endpoint, words):
    """A wrong endpoint would let the tunnel hang for ever behind the lock: it is refused, with the right spelling."""
    found = only(f"[tunnel.wg0]\nendpoints = ['{endpoint}']\n")

    assert found.code in (Code.BAD_ENDPOINT, Code.BAD_VALUE)
    assert words in found.help
    assert found.place.line == 2


@pytest.mark.parametrize(
    ("written", "mark"),
    [
        ("0xca6c", Mark(0xCA6C)),
        ("51820", Mark(51820)),
        ('"0xca6c"', Mark(0xCA6C)),
        ('"51820"', Mark(51820)),
        ('"off"', None),
        ('"OFF"', None),
    ],
)
def test_a_mark_is_read_in_all_its_forms(written, mark):
    """As a TOML number, and in the words of wg(8)."""
    read = parse(f"{TUNNEL}fwmark = {written}\n", "p.toml")

    assert isinstance(read, Declaration)
    assert not read.findings
    assert next(iter(read.document.tunnel.values())).fwmark == mark


@pytest.mark.parametrize("written", ["0", "-1", "0x100000000", "true", "1.5", '"0Xca6c"', '"ca6c"', '""', "[]", '"0x100000000"'])
def test_an_impossible_mark_is_refused(written):
    """Zero marks nothing, more than 32 bits do not fit, and a boolean is no number."""
    assert only(f"{TUNNEL}fwmark = {written}\n").place.line == 3


def test_all_mistakes_are_shown_in_one_run():
    """One mistake never hides another, not even one in the same table or list."""
    text = """
alow = 1
[tunnel.wg0]
fwmrk = 1
endpoints = ["nonsense", "203.0.113.10:51820", "203.0.113.10:0"]
[allow]
dhcp = "yes"
[[allow.inbound]]
name = "a"
[[allow.inbound]]
name = "b"
port = 0
"""
    assert sorted(each.place.line for each in findings(text)) == [2, 4, 5, 5, 7, 8, 12]


def test_what_is_sound_beside_a_mistake_keeps_its_place():
    """Cutting the first item of a list must not move the place of the second."""
    read = parse('[tunnel.wg0]\nendpoints = [\n"bad",\n"vpn.example.com:1",\n]\n', "p.toml")

    assert isinstance(read, Declaration)
    assert read.names == ("vpn.example.com",)
    assert read.spot(("tunnel", "wg0", "endpoints", 0)) == (4, 1, 19)


def test_every_table_of_the_schema_has_its_place():
    """The table of places drives "did you mean"; a table missing from it would make an unknown key crash."""
    assert set(TABLES.values()) == {Document, *(each for each in Table.__subclasses__() if each.__module__ == Document.__module__)}


def test_a_private_key_in_the_policy_is_never_printed():
    """People paste keys into the wrong file; the finding's source line must not spread them."""
    text = f'[tunnel.wg0]\nendpoints = ["203.0.113.10:51820", "{KEY}"]\nPrivateKey = "{KEY}"\n'
    found = findings(text)

    assert len(found) == 2
    assert KEY not in repr(found)
    assert KEY not in repr(parse(text, "p.toml"))


def test_control_characters_of_the_file_never_reach_the_terminal():
    """An escape sequence in a key could rewrite what the user sees."""
    found = only('[tunnel.wg0]\nendpoints = ["203.0.113.10:1"]\n"\\u001b[2J" = 1\n')

    assert "\x1b" not in found.message + found.source + found.help


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_line_ends_and_a_byte_order_mark_do_not_move_places(ending):
    """A file saved on Windows is read as the same file."""
    text = ("\ufeff" + TUNNEL + "fwmrk = 1\n").replace("\n", ending).encode()
    found = only(text)

    assert (found.place.line, found.place.column, found.source) == (3, 1, "fwmrk = 1")


def test_a_relative_config_lies_beside_the_policy():
    """The bundled example must be found from anywhere."""
    read = parse('[tunnel.wg0]\nconfig = "wg0.conf"\n', "/some/where/p.toml")

    assert isinstance(read, Declaration)
    assert read.files == ("/some/where/wg0.conf",)


def test_the_json_schema_names_every_key():
    """Editors complete from it; `from` must appear under its own name, and unknown keys be refused."""
    schema = json_schema()

    assert schema["additionalProperties"] is False
    assert "from" in schema["$defs"]["InboundTable"]["properties"]
    assert set(schema["properties"]) == set(keys_of(Document))
