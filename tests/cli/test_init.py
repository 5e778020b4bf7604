"""`failshut init`, as a user runs it: what is adopted, what is offered, what is never done."""

from __future__ import annotations

import json
import re
import stat
from ipaddress import ip_address

import pytest
from click.testing import CliRunner

from failshut.cli.main import root
from failshut.cli.verbs.init import Answers
from failshut.config.declaration import Unresolved
from failshut.host import sources
from failshut.host.network import listed, surroundings
from failshut.host.run import NOT_FOUND, Result
from failshut.host.tunnels import adopt
from failshut.model.exits import Exit

KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
CONFIG = f"""[Interface]
PrivateKey = {KEY}
Address = 10.99.0.2/32
[Peer]
PublicKey = {KEY}
Endpoint = 203.0.113.10:51820
AllowedIPs = 0.0.0.0/0, ::/0
"""
LAN = {"ifname": "eth0", "addr_info": [{"family": "inet", "local": "192.168.50.7", "prefixlen": 24, "scope": "global"}]}
PUBLIC = {"ifname": "eth0", "addr_info": [{"family": "inet", "local": "8.8.8.9", "prefixlen": 24, "scope": "global"}]}
TAILNET = json.dumps([{"ifname": "tailscale0", "addr_info": [{"local": "100.101.102.103", "prefixlen": 32, "scope": "global"}]}])
DUMP = f"wg0\t{KEY}\t{KEY}\t51820\t0xca6c\nwg0\t{KEY}\t(none)\t203.0.113.10:51820\t0.0.0.0/0\t0\t0\t0\toff\n"


class Machine:
    """A made-up machine: what `ip` and `wg` answer, and what names resolve to."""

    def __init__(self, directory):
        self.directory = directory
        self.answers = {"-j -4 route show default": json.dumps([{"dst": "default", "dev": "eth0"}]), "-j addr": json.dumps([LAN])}
        self.answers["-j addr show dev eth0"] = json.dumps([LAN])
        self.wg = Result(("wg",), 0, "", "")
        self.interfaces = ""
        self.names = {}

    def run(self, argv, **_options):
        """Answer like `host.run.run`."""
        words = " ".join(argv[1:])
        if argv[0] == "wg":
            return Result(tuple(argv), self.wg.code, self.interfaces, "") if words == "show interfaces" else self.wg
        return Result(tuple(argv), 0, self.answers.get(words, "[]"), "")

    def lookup(self, hosts, **_options):
        """Answer like `host.sources.lookup`."""
        return {each: self.names.get(each, Unresolved("no answer")) for each in hosts}

    def config(self, text=CONFIG, name="wg0"):
        """Write a config into what stands for /etc/wireguard."""
        self.directory.mkdir(exist_ok=True)
        (self.directory / f"{name}.conf").write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a machine that the program takes for this one."""
    made_up = Machine(tmp_path / "wireguard")
    monkeypatch.setattr(adopt, "CONFIG_DIRECTORY", made_up.directory)
    monkeypatch.setattr(adopt, "INTERFACES", tmp_path / "net")
    for module in (adopt, listed):
        monkeypatch.setattr(module, "run", made_up.run)
    for module in (adopt, sources):
        monkeypatch.setattr(module, "lookup", made_up.lookup)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(surroundings, "_ancestors", lambda: iter(()))
    return made_up


@pytest.fixture
def target(tmp_path):
    """Return where the policy goes: a directory that is not there yet."""
    return tmp_path / "etc" / "failshut.toml"


def init(target, *words, **options):
    """Run `failshut init`."""
    return CliRunner().invoke(root, ["init", "--policy", str(target), *words], **options)


def check(target):
    """Run `failshut check` on what was written."""
    return CliRunner().invoke(root, ["check", "--strict", "--policy", str(target)])


def test_a_config_is_adopted_by_its_name(machine, target):
    """The written policy names the config, and passes `check`."""
    machine.config()
    result = init(target, "wg0")

    assert result.exit_code == Exit.OK, result.output
    assert f'config = "{machine.directory}/wg0.conf"' in target.read_text()
    assert "endpoints = [" not in target.read_text()
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert check(target).exit_code == Exit.OK
    assert all(f"failshut {verb}" in result.stdout for verb in ("check", "plan", "drill", "arm"))


def test_a_config_is_adopted_by_its_path(machine, target):
    """Relative or absolute: the policy holds the absolute one."""
    machine.config(name="mullvad-se1")
    result = init(target, str(machine.directory / "mullvad-se1.conf"))

    assert result.exit_code == Exit.OK, result.output
    assert "[tunnel.mullvad-se1]" in target.read_text()
    assert check(target).exit_code == Exit.OK


def test_the_only_candidate_is_taken(machine, target):
    """One config, no argument: nothing to ask."""
    machine.config()

    assert init(target).exit_code == Exit.OK


def test_several_candidates_are_listed(machine, target):
    """Guessing would lock the wrong tunnel."""
    machine.config()
    machine.config(name="wg1")
    machine.interfaces = "wg1 wg2\n"
    result = init(target)

    assert result.exit_code == Exit.FAILED
    assert "wg0.conf" in result.stderr
    assert "wg1.conf" in result.stderr
    assert "wg2 (running)" in result.stderr
    assert not target.exists()


@pytest.mark.usefixtures("machine")
def test_nothing_to_adopt_says_what_to_do(target):
    """A fresh machine without a provider's file."""
    result = init(target)

    assert result.exit_code == Exit.FAILED
    assert "wg0.conf" in result.stderr


@pytest.mark.parametrize("wanted", ["wg9", "./nope.conf", "/nope/wg9.conf"])
def test_a_wrong_name_is_told_what_exists_instead(machine, target, wanted):
    """The remedy is the list."""
    machine.config()
    result = init(target, wanted)

    assert result.exit_code == Exit.FAILED
    assert "wg0.conf" in result.stderr


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("wanted", ["a b", "lo", "x" * 16, "wg*", "../x.conf/..", "/"])
def test_a_name_that_no_tunnel_can_have_is_refused(target, wanted):
    """Nothing is looked for under it."""
    result = init(target, wanted)

    assert result.exit_code == Exit.FAILED
    assert "Traceback" not in result.output
    assert not target.exists()


def test_a_running_tunnel_is_adopted_without_its_config(machine, target):
    """Endpoint, mark and addresses are then said by the policy; no key ever is."""
    machine.interfaces = "wg0\n"
    machine.wg = Result(("wg",), 0, DUMP, "")
    machine.answers["-j addr show dev wg0"] = json.dumps(
        [{"addr_info": [{"local": "10.99.0.2", "prefixlen": 32, "scope": "global"}]}]
    )
    result = init(target, "wg0")

    assert result.exit_code == Exit.OK, result.output
    text = target.read_text()
    assert '"203.0.113.10:51820"' in text
    assert "fwmark = 0xca6c" in text
    assert 'addresses = ["10.99.0.2/32"]' in text
    assert KEY not in text
    assert check(target).exit_code == Exit.OK


def test_a_running_tunnel_without_wg_names_the_package(machine, target, tmp_path):
    """The interface is there; who it talks to can't be asked."""
    (tmp_path / "net" / "wg0").mkdir(parents=True)
    machine.wg = Result(("wg",), NOT_FOUND, "", "wg is not installed")
    result = init(target, "wg0")

    assert result.exit_code == Exit.FAILED
    assert "wireguard-tools" in result.stderr


@pytest.mark.usefixtures("machine")
def test_another_kind_of_interface_is_not_adopted(target, tmp_path):
    """An OpenVPN tunnel says nothing of its server."""
    (tmp_path / "net" / "tun0").mkdir(parents=True)
    result = init(target, "tun0")

    assert result.exit_code == Exit.FAILED
    assert "not WireGuard's" in result.stderr


def test_without_root_the_remedy_is_sudo(machine, target):
    """For each interface wg answers "Operation not permitted"."""
    machine.interfaces = "wg0\n"
    machine.wg = Result(("wg",), 1, "", "Unable to access interface wg0: Operation not permitted")
    result = init(target, "wg0")

    assert result.exit_code == Exit.UNKNOWN
    assert "sudo" in result.stderr


def test_a_host_name_is_pinned_to_all_its_addresses(machine, target):
    """With a comment that says which name and when; `check` then still warns of wg-quick's own lookup."""
    machine.config(CONFIG.replace("203.0.113.10:", "vpn.example.com:"))
    machine.names["vpn.example.com"] = (ip_address("203.0.113.10"), ip_address("2001:db8::10"))
    result = init(target, "wg0")
    text = target.read_text()

    assert result.exit_code == Exit.OK, result.output
    assert '"203.0.113.10:51820",   # vpn.example.com' in text
    assert '"[2001:db8::10]:51820",   # vpn.example.com' in text
    assert re.search(r"Pinned on \d{4}-\d\d-\d\d", text)
    assert "T010" in result.stderr


def test_a_host_name_that_does_not_resolve_stops_it(machine, target):
    """A policy without the endpoint would lock the tunnel out."""
    machine.config(CONFIG.replace("203.0.113.10:", "vpn.example.com:"))
    result = init(target, "wg0")

    assert result.exit_code == Exit.FAILED
    assert "vpn.example.com" in result.stderr
    assert not target.exists()


def test_offers_are_commented_out_where_nobody_can_be_asked(machine, target, monkeypatch):
    """Nothing is opened that nobody said yes to, and the user is told of what arming would cut off."""
    monkeypatch.setenv("SSH_CONNECTION", "192.168.50.20 50000 192.168.50.7 22")
    machine.config()
    result = init(target, "wg0")
    text = target.read_text()

    assert "#[allow.lan]" in text
    assert "#[[allow.inbound]]" in text
    assert "--ssh allows it" in result.stderr
    assert check(target).stdout.endswith("allows dhcp, ndp\n")


@pytest.mark.parametrize("words", [("--lan", "--ssh"), ("--yes",)])
def test_offers_are_accepted_when_told(machine, target, monkeypatch, words):
    """SSH from the client's own LAN, because its address may change."""
    monkeypatch.setenv("SSH_CONNECTION", "192.168.50.20 50000 192.168.50.7 2222")
    machine.config()
    init(target, "wg0", *words)
    text = target.read_text()

    assert '\nprefixes = ["192.168.50.0/24"]' in text
    assert '\nport = 2222\nfrom = ["192.168.50.0/24"]' in text
    assert check(target).stdout.endswith("allows dhcp, ndp, lan, ssh\n")


def test_a_flag_wins_over_yes(machine, target):
    """--yes --no-lan accepts all but the LAN."""
    machine.config()
    init(target, "wg0", "--yes", "--no-lan")

    assert "#[allow.lan]" in target.read_text()


def test_on_a_terminal_it_asks(machine, target, monkeypatch):
    """One question an offer, and the answer decides."""
    monkeypatch.setenv("SSH_CONNECTION", "192.168.50.20 50000 192.168.50.7 22")
    monkeypatch.setattr(Answers, "can_ask", property(lambda _self: True))
    machine.config()
    result = init(target, "wg0", input="n\ny\n")

    assert "Allow the local network 192.168.50.0/24 at eth0?" in result.stderr
    assert "#[allow.lan]" in target.read_text()
    assert "\n[[allow.inbound]]" in target.read_text()


def test_ssh_from_elsewhere_is_allowed_for_that_address_only(machine, target, monkeypatch):
    """Its network is not ours to open."""
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.9 50000 192.168.50.7 22")
    machine.config()
    init(target, "wg0", "--ssh")

    assert 'from = ["198.51.100.9/32"]' in target.read_text()


def test_tailscale_is_offered_where_it_runs(machine, target):
    """As an empty table, which is enough; and where it does not run, a flag says so."""
    machine.config()
    without = init(target, "wg0", "--tailscale")
    assert "it does not run here" in without.stderr

    machine.answers["-j addr show dev tailscale0"] = TAILNET
    asked = init(target, "wg0", "--force")
    assert "#[allow.tailscale]" in target.read_text()
    assert "--tailscale allows it" in asked.stderr

    init(target, "wg0", "--force", "--tailscale")
    assert check(target).stdout.endswith("allows dhcp, ndp, tailscale\n")


def test_a_session_that_comes_by_tailscale_needs_tailscale_and_no_ssh(machine, target, monkeypatch):
    """The underlay never sees it; without Tailscale, arming cuts it off, and that is said."""
    monkeypatch.setenv("SSH_CONNECTION", "100.64.7.7 50000 100.101.102.103 22")
    machine.answers["-j addr show dev tailscale0"] = TAILNET
    machine.config()
    result = init(target, "wg0")

    assert "arming would cut it off (--tailscale allows it)" in result.stderr
    assert "allow.inbound" not in target.read_text()


def test_ssh_through_the_tunnel_needs_no_allowance(machine, target, monkeypatch):
    """What comes by the tunnel goes back by it."""
    monkeypatch.setenv("SSH_CONNECTION", "10.99.0.1 50000 10.99.0.2 22")
    machine.config()
    init(target, "wg0", "--yes")

    assert "allow.inbound" not in target.read_text()


@pytest.mark.parametrize(
    "value", ["", "x", "1 2 3", "a b c d", "192.168.50.20 1 192.168.50.7 99999", "::ffff:192.168.50.20 1 fe80::1%eth0 22"]
)
def test_a_strange_ssh_connection_is_no_traceback(machine, target, monkeypatch, value):
    """The variable is the environment's, not ours."""
    monkeypatch.setenv("SSH_CONNECTION", value)
    machine.config()

    assert init(target, "wg0", "--yes").exit_code == Exit.OK


def test_a_public_network_is_never_taken_for_a_lan(machine, target):
    """TunnelCrack LocalNet: not even with --yes."""
    machine.answers["-j addr show dev eth0"] = json.dumps([PUBLIC])
    machine.config()
    result = init(target, "wg0", "--yes")

    assert "8.8.8.0/24 at eth0 is not private" in result.stderr
    assert "allow.lan" not in target.read_text()


def test_a_lan_that_holds_the_endpoint_is_not_offered(machine, target):
    """Every program could then talk to the server in the clear, and `check` would refuse the file."""
    machine.config(CONFIG.replace("203.0.113.10:", "192.168.50.1:"))
    result = init(target, "wg0", "--yes")

    assert result.exit_code == Exit.OK, result.output
    assert "holds an endpoint" in result.stderr
    assert check(target).exit_code == Exit.OK


def test_a_policy_is_never_overwritten(machine, target):
    """It may be the only copy of what the user thought through."""
    machine.config()
    target.parent.mkdir()
    target.write_text("mine\n")
    result = init(target, "wg0")

    assert result.exit_code == Exit.FAILED
    assert "--force" in result.stderr
    assert target.read_text() == "mine\n"


def test_force_keeps_the_old_policy_beside_the_new(machine, target):
    """FILE.bak."""
    machine.config()
    target.parent.mkdir()
    target.write_text("mine\n")

    assert init(target, "wg0", "--force").exit_code == Exit.OK
    assert "[tunnel.wg0]" in target.read_text()
    assert target.with_name("failshut.toml.bak").read_text() == "mine\n"
    assert [each.name for each in target.parent.iterdir() if each.name.startswith(".")] == []


def test_a_dash_writes_to_standard_output_only(machine, target):
    """The text alone, so that it can be redirected."""
    machine.config()
    result = init(target, "wg0", "--output", "-")

    assert result.stdout.splitlines()[1].startswith("# What may leave this machine.")
    assert "Next:" not in result.stdout
    assert not target.exists()


def test_json_names_the_policy_and_the_notes(machine, target):
    """For provisioning tools."""
    machine.config()
    answer = json.loads(init(target, "wg0", "--json").stdout)

    assert (answer["ok"], answer["policy"], answer["tunnel"]) == (True, str(target), "wg0")


def test_a_config_with_mistakes_is_shown_with_them(machine, target):
    """The findings of `check`, and nothing is written."""
    machine.config("[Interface]\nAdress = 10.0.0.1\n")
    result = init(target, "wg0")

    assert result.exit_code == Exit.USAGE
    assert "did you mean Address?" in result.stderr
    assert not target.exists()


def test_a_config_without_an_endpoint_is_not_adopted(machine, target):
    """A server's own config, for one."""
    machine.config(CONFIG.replace("Endpoint", "#Endpoint"))
    result = init(target, "wg0")

    assert result.exit_code == Exit.FAILED
    assert "Endpoint" in result.stderr


@pytest.mark.parametrize("place", ["/proc/nope/failshut.toml", "/dev/null/x", "x" * 300])
def test_a_place_that_can_not_be_written_is_said(machine, tmp_path, place):
    """One line, no traceback, no rest behind."""
    machine.config()
    result = init(tmp_path / "unused", "wg0", "--output", place if place.startswith("/") else str(tmp_path / place))

    assert result.exit_code in (Exit.FAILED, Exit.UNKNOWN)
    assert "can't be written" in result.stderr
    assert "Traceback" not in result.output
