"""`failshut audit --run`: somebody's script makes its rules where it can harm nothing, and they are audited."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from failshut.cli.main import root
from failshut.drill.pool import preflight
from failshut.drill.workers.process import CannotDrillError
from failshut.model.exits import Exit
from needed import needs

pytestmark = pytest.mark.lab

KILL_SWITCH = """#!/bin/sh
case "$1" in up) ;; *) exit 0 ;; esac
VPN=$(ip -o link show | sed -n 's/.*: \\(tun0\\)@.*/\\1/p')
WAN=$(ip route | awk '/default/ {print $5}')
both() { iptables "$@" && ip6tables "$@"; }
both -P FORWARD DROP
both -P OUTPUT DROP
for dev in lo "$VPN"; do both -A OUTPUT -o $dev -j ACCEPT; done
iptables -A OUTPUT -o $WAN -d 203.0.113.7 -p udp --dport 1194 -j ACCEPT
iptables-restore --noflush <<END
*filter
-A OUTPUT -m owner --uid-owner somebody-else -p tcp --dport 8123 -j ACCEPT
COMMIT
END
"""


@pytest.fixture(scope="module", autouse=True)
def _may_run():
    if os.geteuid() != 0:
        pytest.skip("--run needs root")
    needs("iptables")
    try:
        preflight(real_root=True)
    except CannotDrillError as error:
        pytest.skip(str(error))


def run(tmp_path: Path, text: str, *arguments: str):
    path = tmp_path / "wg0.conf"
    path.write_text(text)
    result = CliRunner().invoke(root, ["audit", "--json", "--run", str(path), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def answers(result) -> dict[tuple[str, int], str]:
    return {(each["property"], each["family"]): each["answer"] for each in json.loads(result.stdout)["properties"]}


def test_the_rules_that_a_script_makes_are_audited(tmp_path):
    """Variables, functions, loops, a restore within it, what it asks the machine, and a user whom nobody knows here."""
    result = run(tmp_path, KILL_SWITCH, "up")
    found = answers(result)

    assert {each: found["new-flow", each] for each in (4, 6)} == {4: "proved", 6: "proved"}
    assert (found["established", 4], found["handshake-out", 4], found["exempt", 4]) == ("proved", "works", "leak")
    assert json.loads(result.stdout)["findings"] == []


def test_a_script_that_does_not_end_well_proves_nothing(tmp_path):
    """What it says is passed on; what it made until then is audited."""
    result = run(tmp_path, KILL_SWITCH + "iptables -A OUTPUT -d vpn.invalid -j ACCEPT\n", "up")

    assert result.exit_code == Exit.USAGE
    assert "vpn.invalid" in json.loads(result.stdout)["findings"][0]["message"]


def test_a_script_that_goes_on_after_a_rule_that_it_could_not_add_proves_nothing(tmp_path):
    """The missing rule may be the one that leaks; what is deleted or asked for in vain, on the way, is no matter."""
    gone = "iptables -D OUTPUT -p icmp -j REJECT --reject-with icmp-port-unreachable\niptables -C OUTPUT -j DROP\n"
    tries = f"{gone}iptables -F GONE\nnft delete table inet gone\ntrue\n"
    fine, one, two = (
        run(tmp_path, KILL_SWITCH + tries + each, "up")
        for each in (
            "",
            "iptables -A OUTPUT -d vpn.invalid -j ACCEPT 2>/dev/null; true\n",
            "PATH=/sbin:/usr/sbin:/bin:/usr/bin\necho 'table inet t { chain c { ip daddr vpn.invalid accept' | nft -f -; true\n",
        )
    )

    assert (fine.exit_code, one.exit_code, two.exit_code) == (Exit.OK, Exit.USAGE, Exit.USAGE)
    said = [json.loads(each.stdout)["findings"][0]["message"] for each in (one, two)]
    assert "`iptables -A OUTPUT -d vpn.invalid -j ACCEPT` failed here" in said[0]
    assert "`nft -f -` failed here" in said[1]


def test_a_script_that_asks_for_the_tunnels_peer_gets_one(tmp_path):
    """And whoever runs nftables' unit has its file loaded; other units are started by nobody."""
    result = run(
        tmp_path,
        "#!/bin/sh -e\n"
        "peer=$(wg show wg0 endpoints | cut -f2)\n"
        "cat > /etc/nftables.conf <<END\n"
        "table inet ks {\n chain out {\n type filter hook output priority 0; policy drop;\n"
        ' oifname { "lo", "wg0" } accept\n ip daddr ${peer%:*} udp dport ${peer#*:} accept\n }\n}\n'
        "END\n"
        "modprobe nf_tables\nsystemctl enable tor\nsystemctl restart nftables.service\n",
    )
    found = answers(result)

    assert (found["new-flow", 4], found["handshake-out", 4]) == ("proved", "works")
    assert json.loads(result.stdout)["findings"] == []


def test_a_user_is_called_by_the_name_that_the_script_has_for_it(tmp_path):
    """The rules have a number then, which this machine never gave."""
    rule = "-A OUTPUT ! -o wg0 -m owner --uid-owner $CONFINED -j REJECT"
    text = f'CONFINED=torrents\nboth() {{ iptables "$@" && ip6tables "$@"; }}\nboth {rule}\n'
    result, control = (run(tmp_path, text, f"--user={each}") for each in ("torrents", "somebody"))

    assert (answers(result)["new-flow", 4], answers(control)["new-flow", 4]) == ("proved", "leak")


def test_a_name_has_an_address_that_stands_for_it(tmp_path):
    """However a script asks for it; else its rules would be missing, and what they open be proved shut."""
    asks = ("$(dig +short vpn.example.com)", "$(getent hosts vpn.example.com | cut -d' ' -f1)", "vpn.example.com")
    looked = " ".join(f"; for ip in {each}; do iptables -A OUTPUT -d $ip -j ACCEPT; done" for each in asks)
    found = [run(tmp_path, f"{KILL_SWITCH}true {each}\n", "up") for each in (looked, "")]

    assert [answers(each)["endpoint-port", 4] for each in found] == ["proved", "proved"]
    assert [answers(each)["named", 4] for each in found] == ["leak", "proved"]
    assert "vpn.example.com as 203.0.113.10" in json.loads(found[0].stdout)["findings"][-1]["message"]


def test_a_script_that_reads_a_tunnels_config_finds_a_server_in_it(tmp_path):
    """Of a config that only root may read, and of one that is not there."""
    reads = (
        "S=$(awk '/^Endpoint/ {print $3}' /etc/wireguard/wg7.conf | cut -d: -f1)\n",
        "S=$(awk '/^remote / {print $2}' /etc/openvpn/client/mine.ovpn)\n",
    )
    found = [answers(run(tmp_path, f"{KILL_SWITCH}{each}iptables -A OUTPUT -d $S -j ACCEPT\n", "up")) for each in reads]

    assert [each["named", 4] for each in found] == ["leak", "leak"]


def test_a_script_that_misses_a_file_proves_nothing(tmp_path):
    """Its rules may be made of it; what nft says of a table that is not there, and who only tells somebody, is no matter."""
    told = "nft delete table inet gone\nnotify-send locked\n"
    missing = "cat /etc/nowhere/servers | while read ip; do iptables -A OUTPUT -d $ip -j ACCEPT; done\n"
    found = [run(tmp_path, f"{KILL_SWITCH}{each}true\n", "up").exit_code for each in (told, missing)]

    assert found == [Exit.OK, Exit.USAGE]


def test_what_a_script_fetches_may_be_what_its_rules_are_made_of(tmp_path):
    """There is no network: nothing is proved without it."""
    result = run(
        tmp_path, KILL_SWITCH + "for ip in $(curl -s https://example.com/list); do iptables -A OUTPUT -d $ip; done\n", "up"
    )

    assert result.exit_code == Exit.USAGE
    assert "`curl -s https://example.com/list` failed here" in json.loads(result.stdout)["findings"][0]["message"]


def test_a_script_that_makes_no_rules_is_no_ruleset(tmp_path):
    """Without its argument this one does nothing."""
    result = run(tmp_path, KILL_SWITCH)

    assert result.exit_code == Exit.UNKNOWN
    assert "no rules came of it" in result.output


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("#!/bin/sh\nferm /etc/ferm/ferm.conf\n", "ferm is not installed here"),
        ("#!/bin/sh\nip netns add inner\nip netns exec inner iptables -P OUTPUT DROP\n", "by `ip netns exec NAME`"),
        ("#!/bin/sh\nip route add blackhole default metric 300\n", "routes are not judged"),
        (KILL_SWITCH, "what follows the script on the command line"),
        ("#!/bin/sh\r\niptables -P OUTPUT DROP\r\n", "its lines end with CR LF"),
    ],
    ids=["a program that is missing", "a namespace", "routes alone", "an argument that is missing", "ends of lines"],
)
def test_why_no_rules_came_of_it_is_said(tmp_path, text, remedy):
    """By what the script did and said."""
    result = run(tmp_path, text)

    assert result.exit_code == Exit.UNKNOWN
    assert remedy in result.output


def test_the_hooks_of_a_tunnel_are_run(tmp_path):
    """As wg-quick would, with the mark that it sets."""
    guide = "-I OUTPUT ! -o %i -m mark ! --mark $(wg show %i fwmark) -m addrtype ! --dst-type LOCAL -j REJECT"
    config = f"[Interface]\nPostUp = iptables {guide} && ip6tables {guide}\n"
    found = answers(run(tmp_path, config))

    assert (found["new-flow", 4], found["new-flow", 6], found["tunnel-out", 4]) == ("proved", "proved", "works")


def test_a_script_harms_nothing(tmp_path):
    """Outside of it the same commands do what they say: the control."""
    target = Path(__file__).parent / "made by a script"
    harm = f'touch "{target}" && echo harmed; cat /etc/shadow > /dev/null && echo read; kill -0 1 && echo killed\n'
    assert subprocess.run(["sh", "-c", harm], capture_output=True, text=True, check=False).stdout == "harmed\nread\nkilled\n"
    target.unlink()

    result = run(tmp_path, f"#!/bin/sh\n{harm}sysctl -qw kernel.panic=1 && echo set\niptables -P OUTPUT DROP\n")
    (said,) = json.loads(result.stdout)["findings"]

    assert not target.exists()
    assert not {"harmed", "read", "killed", "set"} & set(said["message"].replace(";", " ").split())
