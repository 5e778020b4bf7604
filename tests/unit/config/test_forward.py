"""What `[forward]` may say: findings, and the policy that comes of it."""

from __future__ import annotations

import pytest

from failshut.config.declaration import Declaration, Sources
from failshut.config.policy_file import parse
from failshut.config.resolve import resolve
from failshut.model.finding import Code, Severity
from failshut.model.policy import LOCAL_BRIDGES, Forward, ForwardMode

TUNNEL = '[tunnel.wg0]\nendpoints = ["203.0.113.10:51820"]\n[forward]\n'


def check(text):
    """Check a policy with this [forward], whose first key stands in line 4."""
    declaration = parse(TUNNEL + text, "p.toml")
    assert isinstance(declaration, Declaration), declaration
    return resolve(declaration, Sources())


def test_nothing_said_means_nothing_forwarded_and_the_usual_bridges():
    """Those of Docker, Podman, libvirt, LXC, LXD and Incus reach the machine and each other."""
    assert check("").policy.forward == Forward(ForwardMode.BLOCK, LOCAL_BRIDGES, ())


def test_what_is_named_is_in_the_policy_once():
    """Repeats would be refused by nft in a set of intervals, and a pattern's members by it."""
    checked = check('mode = "tunnel"\nbridges = ["br-*", "br-lan", "virbr0", "virbr0"]\nclients = ["eth1", "eth1"]\n')

    assert checked.findings == ()
    assert checked.policy.forward == Forward(ForwardMode.TUNNEL, ("br-*", "virbr0"), ("eth1",))


def test_no_bridge_at_all_can_be_said():
    """Then every bridge is underlay."""
    assert check("bridges = []\n").policy.forward.bridges == ()


@pytest.mark.parametrize(
    "text", ['bridges = ["wg0"]\n', 'bridges = ["w*"]\n', 'mode = "tunnel"\nclients = ["eth1", "wg0"]\n'], ids=str.strip
)
def test_the_tunnel_is_neither_bridge_nor_client(text):
    """What comes out of it would be taken for a part of the machine; the finding names where the tunnel stands."""
    checked = check(text)

    assert [each.code for each in checked.findings] == [Code.CONTRADICTION]
    assert "p.toml:1" in checked.findings[0].message
    assert checked.policy is None


def test_clients_that_may_do_nothing_are_warned_of():
    """They are named, and `block` forwards for nobody; it opens nothing, so that the policy stands."""
    checked = check('clients = ["eth1"]\n')

    assert [(each.code, each.severity) for each in checked.findings] == [(Code.CONTRADICTION, Severity.WARNING)]
    assert checked.policy is not None


@pytest.mark.parametrize(
    "text", ['mode = "open"\n', 'bridges = "br0"\n', 'clients = ["eth*"]\n', 'bridges = ["a b"]\n', "clent = []\n"]
)
def test_what_is_no_mode_list_or_name_is_refused(text):
    """A client is one interface: a pattern would take in what is plugged in later."""
    read = parse(TUNNEL + text, "p.toml")
    findings = read.findings if isinstance(read, Declaration) else read

    assert [each.place.line for each in findings] == [4]


SITES = 'mode = "tunnel"\nclients = ["eth1"]\n'


def test_two_sites_are_in_the_policy_in_the_fewest_prefixes():
    """Those that touch are one, as in a set of intervals."""
    checked = check(f'{SITES}local = ["192.168.20.0/24"]\nremote = ["192.168.10.0/24", "192.168.11.0/24", "fd10::/64"]\n')

    assert checked.findings == ()
    assert [str(each) for each in checked.policy.forward.remote] == ["192.168.10.0/23", "fd10::/64"]
    assert [str(each) for each in checked.policy.forward.local] == ["192.168.20.0/24"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (f'{SITES}local = ["192.168.20.0/24"]\n', Code.CONTRADICTION, "no `remote`"),
        (f'{SITES}remote = ["192.168.10.0/24"]\n', Code.CONTRADICTION, "no `local`"),
        ('mode = "tunnel"\nlocal = ["10.1.0.0/24"]\nremote = ["10.2.0.0/24"]\n', Code.CONTRADICTION, "no `clients`"),
        (f'{SITES}local = ["10.1.0.0/24"]\nremote = ["fd10::/64"]\n', Code.CONTRADICTION, "no version of IP in common"),
        (f'{SITES}local = ["10.1.0.0/24"]\nremote = ["0.0.0.0/0"]\n', Code.TOO_WIDE, "wider than any site"),
        (f'{SITES}local = ["10.1.0.0/24"]\nremote = ["224.0.0.0/24"]\n', Code.BAD_VALUE, "no network that a tunnel could lead to"),
        (f'{SITES}local = ["10.1.0.0/24"]\nremote = ["10.1.0.0/16"]\n', Code.CONTRADICTION, "10.1.0.0/24 (p.toml:6)"),
        (
            f'{SITES}local = ["10.1.0.0/24"]\nremote = ["10.2.0.0/24"]\n[allow.lan]\nprefixes = ["10.2.0.0/16"]\n',
            Code.CONTRADICTION,
            "10.2.0.0/16 (p.toml:9)",
        ),
        (
            f'{SITES}local = ["10.1.0.0/24"]\nremote = ["10.2.0.0/24"]\n[outside]\nprefixes = ["10.2.0.0/25"]\n',
            Code.CONTRADICTION,
            "is on this side",
        ),
    ],
)
def test_half_a_pair_of_sites_and_one_that_is_here_too_are_refused(text, code, said):
    """What is reached beside the tunnel too would be let in from it and answered in the clear."""
    checked = check(text)

    assert code in {each.code for each in checked.findings}
    assert any(said in each.message for each in checked.findings), checked.findings
    assert checked.policy is None
