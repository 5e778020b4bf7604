"""Arm, disarm, plan and status against the real kernel, in a namespace of their own."""

from __future__ import annotations

import json
import re
import signal
import sys

import pytest

from amount import amount
from sandbox import CONFIG, FAILSHUT, POLICY

pytestmark = pytest.mark.lab

ARMED = "/etc/failshut/armed"


def state(sandbox) -> tuple[str, int]:
    done = sandbox.failshut("status", "--json")
    return json.loads(done.stdout)["state"], done.returncode


def test_arming_loads_the_lock_and_status_says_so(sandbox):
    """Disarmed exits 3, armed exits 0, and both say it in one word."""
    sandbox.adopt_example()

    assert state(sandbox) == ("disarmed", 3)
    done = sandbox.failshut("arm")

    assert done.returncode == 0, done.stderr
    assert state(sandbox) == ("armed", 0)


def test_a_health_check_reads_the_exit_code_alone(sandbox):
    quiet = sandbox.failshut("status", "-q")
    assert (quiet.returncode, quiet.stdout + quiet.stderr) == (3, "")
    sandbox.adopt_example()
    assert sandbox.failshut("arm").returncode == 0
    quiet = sandbox.failshut("status", "-q")
    assert (quiet.returncode, quiet.stdout + quiet.stderr) == (0, "")


def test_tailscale_s_interface_is_no_underlay(sandbox):
    """It comes after arming, as tailscaled makes it: no device that the layer under IP should hold, and no drift."""
    sandbox.write("/etc/wireguard/wg0.conf", CONFIG)
    sandbox.write("/etc/failshut/failshut.toml", POLICY + "[allow.tailscale]\n")
    assert sandbox.failshut("arm").returncode == 0

    sandbox.run("ip", "tuntap", "add", "tailscale0", "mode", "tun")

    assert state(sandbox) == ("armed", 0)
    # The control: another device that comes is told of.
    sandbox.run("ip", "tuntap", "add", "other0", "mode", "tun")
    assert state(sandbox)[0] == "drift"


@pytest.mark.scenario(126)
def test_disarming_brings_back_exactly_what_was_there(sandbox):
    """Rules, files, routes and sysctls after arm and disarm are those from before."""
    sandbox.adopt_example()
    before = sandbox.fingerprint()

    sandbox.failshut("arm")
    during = sandbox.fingerprint()
    done = sandbox.failshut("disarm", "--yes")

    assert done.returncode == 0, done.stderr
    assert before != during
    assert before == sandbox.fingerprint()


def test_disarming_after_a_second_arming_still_brings_everything_back(sandbox):
    """The second arming must not take what the first one changed for the user's own."""
    sandbox.adopt_example()
    before = sandbox.fingerprint()

    sandbox.failshut("arm")
    sandbox.failshut("arm")
    sandbox.failshut("disarm", "--yes")

    assert before == sandbox.fingerprint()


def test_a_config_without_a_mark_gets_one_that_survives_restarts(sandbox):
    """`FwMark` stands in the config after arming; every other line is as it was."""
    sandbox.adopt_example()

    sandbox.failshut("arm")

    after = sandbox.read("/etc/wireguard/wg0.conf")
    added = [line for line in after.splitlines() if line not in CONFIG.splitlines()]
    assert len(added) == 1
    assert added[0].startswith("FwMark = 0x0000ca6c")
    assert [line for line in after.splitlines() if line in CONFIG.splitlines()] == CONFIG.splitlines()


def test_a_running_tunnel_without_a_mark_gets_it_at_once(sandbox):
    """`wg show wg0 fwmark` answers the lock's mark after arming, and off after disarming."""
    sandbox.adopt_example()
    tunnel = sandbox.start("wireguard-go", "-f", "wg0")
    try:
        for _ in range(200):
            if sandbox.run("wg", "show", "wg0", "fwmark").returncode == 0:
                break
        assert sandbox.run("wg", "show", "wg0", "fwmark").stdout.strip() == "off"

        armed = sandbox.failshut("arm")

        assert armed.returncode == 0, armed.stderr
        assert sandbox.run("wg", "show", "wg0", "fwmark").stdout.strip() == "0xca6c"
        sandbox.failshut("disarm", "--yes")
        assert sandbox.run("wg", "show", "wg0", "fwmark").stdout.strip() == "off"
    finally:
        tunnel.kill()
        tunnel.communicate()


def test_plan_shows_the_difference_and_nothing_after_arming(sandbox):
    """`plan --exit-code` answers 10 while something would change and 0 when nothing would; it changes nothing itself."""
    sandbox.adopt_example()
    before = sandbox.fingerprint()

    first = sandbox.failshut("plan", "--exit-code")

    assert first.returncode == 10
    assert "+\tchain postrouting {" in first.stdout
    assert "FwMark" in first.stdout
    assert before == sandbox.fingerprint()
    sandbox.failshut("arm")
    second = sandbox.failshut("plan", "--exit-code")
    assert second.returncode == 0
    assert "Nothing to change" in second.stdout


def test_a_plan_tells_nobody_the_secret_marks(sandbox):
    """Neither a plan of the first arming nor one of its files: who reads a ticket could else write frames that pass."""
    sandbox.adopt_example()
    shown = [sandbox.failshut("plan", *words).stdout for words in ((), ("--json",))]
    assert sandbox.failshut("arm").returncode == 0
    (stamp,) = set(
        re.findall(
            r'meta mark set (0x[0-9a-f]+) accept comment "stamp"', sandbox.run("nft", "list", "table", "inet", "failshut").stdout
        )
    )

    assert all("meta mark set (own) accept" in each for each in shown)
    assert not any(stamp.lower() in each.lower() for each in shown)


@pytest.mark.scenario(102)
@pytest.mark.parametrize(
    "change",
    [
        "insert rule inet failshut postrouting accept",
        "add rule inet failshut output ip daddr 1.1.1.1 accept",
        "flush chain inet failshut postrouting",
        "add table inet failshut { flags dormant; }",
        "delete table netdev failshut",
        "add chain inet failshut extra { type filter hook input priority 0; }",
        "flush ruleset",
    ],
)
def test_every_change_to_the_lock_is_drift(sandbox, change):
    """What another tool adds, removes or switches off is seen, and arming puts it right."""
    sandbox.adopt_example()
    sandbox.failshut("arm")

    changed = sandbox.run("nft", change)

    assert changed.returncode == 0, changed.stderr
    assert state(sandbox) == ("drift", 11)
    assert sandbox.failshut("arm").returncode == 0
    assert state(sandbox) == ("armed", 0)


@pytest.mark.scenario(93)
def test_a_load_that_fails_leaves_everything_as_it_was(sandbox):
    """With an nft that refuses to load, arming fails with its words, and neither the kernel nor a file has changed."""
    sandbox.adopt_example()
    sandbox.failshut("arm")
    sandbox.write("/etc/failshut/failshut.toml", sandbox.read("/etc/failshut/failshut.toml") + "multicast = true\n")
    before = sandbox.fingerprint()
    refusing = "#!/bin/sh\ncase \"$*\" in '-f -') echo 'no such luck' >&2; exit 1;; esac\nexec /usr/sbin/nft \"$@\"\n"
    sandbox.write("/run/refusing/nft", refusing)
    sandbox.run("chmod", "+x", "/run/refusing/nft")

    done = sandbox.failshut("arm", env={"PATH": "/run/refusing:/usr/sbin:/usr/bin:/sbin:/bin"})

    assert done.returncode == 1
    assert "no such luck" in done.stderr
    assert "put back as it was" in done.stderr
    assert before == sandbox.fingerprint()
    assert state(sandbox) == ("armed", 0)


def test_a_read_back_that_differs_takes_the_load_back(sandbox):
    """When the kernel holds something else than what was loaded, the old lock is there again afterwards."""
    sandbox.adopt_example()
    sandbox.failshut("arm")
    sandbox.write("/etc/failshut/failshut.toml", sandbox.read("/etc/failshut/failshut.toml") + "multicast = true\n")
    before = sandbox.fingerprint()
    meddling = (
        '#!/bin/sh\n/usr/sbin/nft "$@" || exit\n'
        "case \"$*\" in '-f -') [ -e /run/once ] || /usr/sbin/nft add rule inet failshut output accept; touch /run/once;; esac\n"
    )
    sandbox.write("/run/meddling/nft", meddling)
    sandbox.run("chmod", "+x", "/run/meddling/nft")

    done = sandbox.failshut("arm", env={"PATH": "/run/meddling:/usr/sbin:/usr/bin:/sbin:/bin"})

    assert done.returncode == 1
    assert "does not hold what was loaded" in done.stderr
    assert before == sandbox.fingerprint()
    assert state(sandbox) == ("armed", 0)


def test_a_full_disk_leaves_everything_as_it_was(sandbox):
    """With no room for the staged files, arming fails before the kernel is touched."""
    sandbox.adopt_example()
    sandbox.run("mkdir", "-p", ARMED)
    sandbox.run("mount", "-t", "tmpfs", "-o", "size=4k", "none", ARMED)
    before = sandbox.fingerprint()

    done = sandbox.failshut("arm")

    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert before == sandbox.fingerprint()


def test_a_second_arming_at_the_same_time_is_refused(sandbox):
    """Two arms never interleave."""
    sandbox.adopt_example()
    holder = sandbox.start("flock", "--no-fork", "/run/failshut.lock", "sh", "-c", "echo held; exec cat")
    assert holder.stdout.readline() == "held\n"

    done = sandbox.failshut("arm")

    assert done.returncode == 1
    assert "another failshut" in done.stderr
    holder.send_signal(signal.SIGKILL)
    holder.communicate()


def test_arming_without_root_says_what_to_do(sandbox):
    """Who lacks the privilege gets exit 4 and the word sudo, and nothing has changed."""
    sandbox.adopt_example()
    before = sandbox.fingerprint()

    for verb in ("arm", "plan", "status"):
        done = sandbox.run("setpriv", "--bounding-set=-all", "--inh-caps=-all", "env", "PATH=/usr/bin:/bin", *FAILSHUT, verb)
        assert done.returncode == 4, (verb, done.stdout, done.stderr)
        assert "sudo" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr

    assert before == sandbox.fingerprint()


def test_without_nft_the_error_names_the_package(sandbox):
    """A machine without nft gets exit 1 and what to install."""
    sandbox.adopt_example()
    sandbox.uninstall("nft")

    done = sandbox.failshut("arm")

    assert done.returncode == 1
    assert "nft is not installed" in done.stderr
    assert "package nftables" in done.stderr
    assert "Traceback" not in done.stderr


def test_disarming_asks_and_does_nothing_without_a_terminal(sandbox):
    """A script must say --yes."""
    sandbox.adopt_example()
    sandbox.failshut("arm")

    done = sandbox.failshut("disarm")

    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert state(sandbox) == ("armed", 0)


def test_a_policy_that_loses_a_service_loses_its_chains(sandbox):
    """Chains of an earlier policy don't stay behind, and their removal is part of the same transaction."""
    sandbox.adopt_example()
    plain = sandbox.read("/etc/failshut/failshut.toml")
    sandbox.write("/etc/failshut/failshut.toml", plain + '[[allow.inbound]]\nname = "ssh"\nprotocol = "tcp"\nport = 22\n')
    sandbox.failshut("arm")
    assert "chain arrived" in sandbox.run("nft", "list", "ruleset").stdout
    sandbox.write("/etc/failshut/failshut.toml", plain)

    done = sandbox.failshut("arm")

    assert done.returncode == 0, done.stderr
    assert "chain arrived" not in sandbox.run("nft", "list", "ruleset").stdout
    assert state(sandbox) == ("armed", 0)


def test_a_policy_that_holds_nothing_back_any_more_loses_the_gate(sandbox):
    """A set stays when its table is flushed: armed without it, the kernel has none, and the lock is as armed."""
    sandbox.write("/etc/wireguard/wg0.conf", CONFIG)
    sandbox.write("/etc/failshut/failshut.toml", POLICY + "on_demand = true\n")
    assert sandbox.failshut("arm").returncode == 0
    assert "open-lan" in sandbox.run("nft", "list", "table", "inet", "failshut").stdout
    sandbox.write("/etc/failshut/failshut.toml", POLICY)

    done = sandbox.failshut("arm")

    assert done.returncode == 0, done.stderr
    assert "open-lan" not in sandbox.run("nft", "list", "table", "inet", "failshut").stdout
    assert sandbox.failshut("status").stdout.split()[:2] == ["lock", "armed"]


def test_what_was_refused_is_counted_by_destination_and_user(sandbox):
    """A refused packet shows up in status with where it wanted to go and who sent it."""
    sandbox.adopt_example()
    sandbox.failshut("arm")
    send = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.168.50.9', 53))"

    sandbox.run("python3", "-c", send)

    refused = json.loads(sandbox.failshut("status", "--json").stdout)["refused"]
    assert refused["local"] == 1
    line = {"destination": "192.168.50.9", "protocol": "udp", "port": 53, "uid": 0, "packets": 1}
    assert refused["destinations"] == [line]


def test_a_broken_record_is_drift_and_arming_mends_it(sandbox):
    """A record cut in the middle is said, never a traceback."""
    sandbox.adopt_example()
    sandbox.failshut("arm")
    sandbox.run("truncate", "-s", "100", f"{ARMED}/current/armed.json")

    assert state(sandbox) == ("drift", 11)
    assert sandbox.failshut("arm").returncode == 0
    assert state(sandbox) == ("armed", 0)


@pytest.mark.scenario(74)
def test_a_device_that_comes_after_arming_is_said_and_guarded_by_the_next_arming(sandbox):
    """Status names it while the layer under IP does not cover it, and no longer once it does."""
    sandbox.adopt_example()
    sandbox.failshut("arm")

    sandbox.run("ip", "link", "add", "usb0", "type", "veth", "peer", "name", "usbcable")

    late = json.loads(sandbox.failshut("status", "--json").stdout)
    assert sorted(late["not_under_ip"]) == ["usb0", "usbcable"]
    assert state(sandbox) == ("drift", 11)
    assert "usb0" in sandbox.failshut("status").stdout
    sandbox.failshut("arm")
    assert json.loads(sandbox.failshut("status", "--json").stdout)["not_under_ip"] == []
    assert state(sandbox) == ("armed", 0)


def test_a_renamed_device_is_said_and_guarded_by_the_next_arming(sandbox):
    """On newer kernels a rename loses the egress hook; nobody may be told that all is well."""
    sandbox.adopt_example()
    sandbox.failshut("arm")

    sandbox.run("ip", "link", "set", "cable", "down")
    sandbox.run("ip", "link", "set", "cable", "name", "lan7")

    assert state(sandbox) == ("drift", 11)
    assert sandbox.failshut("arm").returncode == 0
    assert state(sandbox) == ("armed", 0)


def test_a_device_that_is_gone_takes_its_chain_along_at_the_next_arming(sandbox):
    """Arming after a device was unplugged works, and leaves no chain for it."""
    sandbox.run("ip", "link", "add", "usb0", "type", "veth", "peer", "name", "usbcable")
    sandbox.adopt_example()
    sandbox.failshut("arm")
    sandbox.run("ip", "link", "del", "usb0")

    done = sandbox.failshut("arm")

    assert done.returncode == 0, done.stderr
    assert '"usb' not in sandbox.run("nft", "list", "ruleset").stdout
    assert state(sandbox) == ("armed", 0)


def test_interrupting_an_arming_leaves_the_old_state_or_the_new(sandbox):
    """Ctrl-C at any moment: what status then says is armed or disarmed, never drift, and nothing is half done."""
    sandbox.adopt_example()
    seen = set()
    every = amount(usually=8, thoroughly=1)
    # A busy machine takes its time.
    later = (0.8 * 1.3**each for each in range(18))
    for delay in (*(0.02 * (each + 1) for each in range(0, 40, every)), *later):
        if delay >= 0.8 and len({word for word, _ in seen}) == 2:
            break
        before = sandbox.fingerprint()
        done = sandbox.run("timeout", "--signal=INT", f"{delay:.2f}", *FAILSHUT, "arm")
        word, _ = state(sandbox)
        seen.add((word, done.returncode))
        assert word in ("armed", "disarmed"), (delay, done.stderr)
        if word == "disarmed":
            assert before == sandbox.fingerprint()
        else:
            sandbox.failshut("disarm", "--yes")
    assert {word for word, _ in seen} == {"armed", "disarmed"}, seen


@pytest.mark.parametrize("allowed", ["0.0.0.0/0, ::/0", "10.0.0.0/8"])
def test_wg_quick_gives_the_tunnel_its_mark_back_after_every_restart(sandbox, allowed):
    """With the whole Internet or a part of it in the tunnel: up, down, up, and the mark is the lock's each time."""
    sandbox.adopt_example()
    sandbox.write("/etc/wireguard/wg0.conf", CONFIG.replace("0.0.0.0/0, ::/0", allowed))
    sandbox.failshut("arm")

    for _ in range(2):
        up = sandbox.run("wg-quick", "up", "wg0")
        assert up.returncode == 0, up.stderr
        assert sandbox.run("wg", "show", "wg0", "fwmark").stdout.strip() == "0xca6c"
        assert json.loads(sandbox.failshut("status", "--json").stdout)["tunnels"]["wg0"] is not None
        down = sandbox.run("wg-quick", "down", "wg0")
        assert down.returncode == 0, down.stderr
    assert state(sandbox) == ("armed", 0)


def test_the_mark_that_arming_writes_into_a_config_is_no_change_of_the_policy(sandbox):
    """`refresh` arms only what the user armed; it must not take arming's own line for something else."""
    sandbox.adopt_example()
    sandbox.failshut("arm")

    refreshed = sandbox.failshut("refresh")

    assert "is not what was armed" not in refreshed.stderr
    assert "wg0 is down" in refreshed.stdout


_CHANGED_MEANWHILE = """
import subprocess
from failshut.host.filter.generation import of_one_moment

asked = 0

def question(changes):
    global asked
    asked += 1
    if asked <= changes:
        subprocess.run(["nft", "add", "table", "inet", f"another{asked}"], check=True)
    return asked

print(of_one_moment(lambda: question(0)))
asked = 0
print(of_one_moment(lambda: question(3)))
"""


def test_a_listing_amid_which_the_rules_change_is_asked_for_again(sandbox):
    """What nft says while another program loads may be of two moments; asked once where nothing changes."""
    assert sandbox.must(sys.executable, "-c", _CHANGED_MEANWHILE).split() == ["1", "4"]
