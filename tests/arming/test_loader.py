"""What a boot runs, byte by byte and step by step: sealed files, the loader's choice, and the guard; without systemd."""

from __future__ import annotations

import json
import shutil

import pytest

from amount import amount, thorough
from failshut.drill.network.wait import until

pytestmark = pytest.mark.lab

ARMED = "/etc/failshut/armed"
LOADER = ("sh", "/etc/failshut/load")
CURRENT, LAST_GOOD, EVERYTHING = "(current)", "(last-good)", "(drop-everything)"

# Every prefix of the file $1 in turn; says for which of them the loader's own question is answered with yes.
_EVERY_CUT = r"""
set -- "$1" "$(wc -c <"$1")" "$2"
sed '/^mode=/,$d' /etc/failshut/load >/run/functions
. /run/functions
cp "$1" /run/whole
cut=0
while [ $cut -lt "$2" ]; do
	head -c $cut /run/whole >"$1"
	if sealed $armed/current; then echo "$cut"; fi
	cut=$((cut + $3))
done
cp /run/whole "$1"
sealed $armed/current && echo whole
"""

# How often the choke point says that it drops, after each prefix was loaded over what is there.
_EVERY_END = """
whole=$1
shift
for end; do
	head -c "$end" "$whole" | nft -f - 2>/dev/null
	nft list chain inet failshut postrouting | grep -c 'policy drop'
done
"""


@pytest.fixture
def armed(sandbox):
    """A machine that was armed; what the kernel holds is taken away by whoever needs a fresh boot."""
    sandbox.adopt_example()
    done = sandbox.failshut("arm")
    assert done.returncode == 0, done.stderr
    return sandbox


def boot(machine, *mode: str) -> str:
    """Load as a boot does, into a kernel without rules; return what the loader said."""
    machine.run("nft", "flush", "ruleset")
    return load(machine, *mode)


def load(machine, *mode: str) -> str:
    return machine.run(*LOADER, *mode).stderr


def status(machine) -> dict:
    return json.loads(machine.failshut("status", "--json").stdout)


def sends(machine) -> bool:
    """Whether a datagram gets onto the cable; ARP is answered beforehand, so that only the lock decides."""
    machine.run("ip", "route", "replace", "192.0.2.0/24", "via", "192.168.50.1")
    machine.run("ip", "neighbour", "replace", "192.168.50.1", "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    before = int(machine.read("/sys/class/net/cable/statistics/rx_packets"))
    send = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))"
    machine.run("python3", "-c", send)
    return int(machine.read("/sys/class/net/cable/statistics/rx_packets")) > before


def test_a_boot_loads_exactly_what_was_armed(armed):
    """After a boot from the sealed files `status` finds no difference to what arming read back."""
    assert CURRENT in boot(armed)
    now = status(armed)
    assert (now["state"], now["held"], now["drift"]) == ("armed", "current", [])


@pytest.mark.parametrize("name", ["lock.nft", "SHA256SUMS"])
def test_a_file_cut_at_any_byte_is_never_loaded(armed, name):
    """The seal refuses every prefix of the lock, and of the list of checksums."""
    path = f"{ARMED}/current/{name}"

    passed = armed.run("sh", "-c", _EVERY_CUT, "sh", path, str(amount(usually=31, thoroughly=1))).stdout.split()

    assert passed == ["whole"]


def test_a_lock_cut_at_any_line_opens_nothing_even_without_its_seal(armed):
    """Loaded by hand over the armed lock, no prefix of the file lets a packet out: what nft takes of it drops more, never less."""
    text = armed.read(f"{ARMED}/current/lock.nft")
    ends = [at for at, each in enumerate(text) if each in "\n{};"][:: amount(usually=3, thoroughly=1)]
    assert not sends(armed)
    armed.run("nft", "flush", "ruleset")
    assert sends(armed), "the control: without a lock it gets out"
    load(armed)

    tried = armed.run("sh", "-c", _EVERY_END, "sh", f"{ARMED}/current/lock.nft", *map(str, ends)).stdout.split()

    assert tried == ["1"] * len(ends)
    assert not sends(armed)


@pytest.mark.parametrize(
    ("damage", "said", "held"),
    [
        ("truncate -s 700 current/lock.nft", LAST_GOOD, "current"),
        pytest.param("truncate -s 0 current/lock.nft", LAST_GOOD, "current", marks=thorough),
        ("truncate -s 0 current/SHA256SUMS", LAST_GOOD, "current"),
        pytest.param("rm current/lock.nft", LAST_GOOD, "current", marks=thorough),
        ("rm current", LAST_GOOD, "last-good"),
        ("head -c 5000 /dev/urandom >current/lock.nft", LAST_GOOD, "current"),
        pytest.param("head -c 5000 /dev/urandom >current/egress.nft", LAST_GOOD, "current", marks=thorough),
        ("rm -r $(readlink current)", LAST_GOOD, "last-good"),
        ("truncate -s 700 current/lock.nft last-good/lock.nft", EVERYTHING, "drop-everything"),
        pytest.param("rm current last-good", EVERYTHING, "drop-everything", marks=thorough),
        ("rm -r *", EVERYTHING, "drop-everything"),
    ],
)
def test_damaged_files_load_the_last_good_lock_or_one_that_drops_everything(armed, damage, said, held):
    """Whatever happens to the files, a lock is on, the loader says which, and so does `status`."""
    armed.run("sh", "-c", f"cd {ARMED} && {damage}")

    words = boot(armed)

    assert said in words, words
    assert "missing or damaged" in words
    now = status(armed)
    assert (now["state"], now["held"]) == ("drift", held)
    assert now["reason"]
    assert not sends(armed)
    assert armed.failshut("arm").returncode == 0
    assert status(armed)["state"] == "armed"


def test_the_last_good_lock_is_the_one_armed_before(armed):
    """After a change of the policy the earlier lock is the last good one, and `status` tells them apart."""
    armed.write("/etc/failshut/failshut.toml", armed.read("/etc/failshut/failshut.toml") + "multicast = true\n")
    assert armed.failshut("arm").returncode == 0
    armed.run("truncate", "-s", "700", f"{ARMED}/current/lock.nft")

    assert LAST_GOOD in boot(armed)

    now = status(armed)
    assert (now["state"], now["held"]) == ("drift", "last-good")
    assert "last good" in now["reason"]


def test_a_lock_that_nft_refuses_gives_way_to_the_last_good_one(armed):
    """A sealed file that this kernel or nft does not take is no reason to be open."""
    armed.write(f"{ARMED}/current/lock.nft", armed.read(f"{ARMED}/current/lock.nft") + "no such word\n")
    armed.run("sh", "-c", f"cd {ARMED}/current && sha256sum egress.nft guard.nft lock.nft >SHA256SUMS")

    words = boot(armed)

    assert "refused" in words
    assert LAST_GOOD in words


def test_what_the_kernel_holds_is_kept_when_no_file_is_whole(armed):
    """Damaged files on a running machine don't cut it off: its lock stays."""
    armed.run("sh", "-c", f"truncate -s 700 {ARMED}/*/lock.nft")

    assert "keeps the lock" in load(armed)
    assert status(armed)["held"] == "current"


def test_without_nft_the_loader_fails_so_that_no_network_starts(armed):
    """The unit fails, and with it everything that requires it."""
    armed.run("nft", "flush", "ruleset")
    armed.uninstall("nft")

    done = armed.run(*LOADER)

    assert done.returncode == 1
    assert "nft is not installed" in done.stderr


def test_a_missing_device_costs_only_its_own_chain(armed):
    """What is under IP is loaded for the devices that are there; the one that comes later gets its part when it comes."""
    armed.run("ip", "link", "set", "eth0", "down")
    armed.run("ip", "link", "set", "eth0", "name", "away")

    assert CURRENT in boot(armed)

    assert "egress-cable" in armed.run("nft", "list", "ruleset").stdout
    assert "egress-eth0" not in armed.run("nft", "list", "ruleset").stdout
    armed.run("ip", "link", "set", "away", "name", "eth0")
    load(armed, "link")
    assert "egress-eth0" in armed.run("nft", "list", "ruleset").stdout
    assert status(armed)["drift"] == []


def test_ten_thousand_prefixes_are_armed_and_booted(armed):
    """A policy that names a country's networks is a policy like every other; `make bench` says how long it takes."""
    prefixes = ", ".join(f'"10.{number >> 8}.{number & 255}.0/25"' for number in range(10_000))
    armed.write(
        "/etc/failshut/failshut.toml", f'[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n[allow.lan]\nprefixes = [{prefixes}]\n'
    )

    assert armed.failshut("arm").returncode == 0

    assert CURRENT in boot(armed)
    now = status(armed)
    assert (now["state"], now["drift"]) == ("armed", [])
    assert not sends(armed)


def test_the_generator_does_nothing_on_a_machine_that_is_locked(armed):
    """systemd runs it at every daemon-reload."""
    armed.run("nft", "add", "rule", "inet", "failshut", "count-forwarded", "counter")
    before = armed.run("nft", "-s", "list", "ruleset").stdout

    assert load(armed, "generator", "/run") == ""

    assert armed.run("nft", "-s", "list", "ruleset").stdout == before


def test_nftables_own_flush_and_the_lock_are_one_transaction(armed):
    """The other rules are loaded, the lock is whole, and the kernel saw one commit."""
    armed.write("/etc/nftables.conf", "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter { chain forward { }; }\n")
    watch = armed.start("sh", "-c", "exec nft monitor >/run/events")
    try:
        # A change, again and again, until the monitor is seen to listen.
        assert until(lambda: _said_after(armed, "begin"), within=10, step=0.05)
        assert load(armed, "nftables", "/etc/nftables.conf") == ""
        assert until(lambda: _said_after(armed, "end"), within=10, step=0.05)
    finally:
        watch.kill()
        watch.communicate()
    # From the first of the user's own rules to the last of ours: no commit in between.
    during = armed.read("/run/events").partition("add table inet filter")[2].rpartition('comment "shut"')[0]
    assert 'postrouting drop comment "shut"' in during
    assert "new generation" not in during
    assert "table inet filter" in armed.run("nft", "list", "tables").stdout
    assert status(armed)["drift"] == []


def _said_after(machine, name: str) -> bool:
    machine.run("nft", "add", "table", "inet", name)
    if f"table inet {name}" in machine.read("/run/events"):
        return True
    machine.run("nft", "delete", "table", "inet", name)
    return False


def test_a_flush_by_another_tool_opens_nothing_while_the_guard_stands_by(armed):
    """`nft flush ruleset` takes the lock and not the guard: nothing gets out, and the lock is back by itself."""
    armed.run("nft", "flush", "ruleset")
    assert sends(armed), "the control: without the guard it gets out"
    load(armed)
    # In a PID namespace of its own, so that everything it starts ends with it.
    guard = armed.start("unshare", "--pid", "--fork", "--kill-child", *LOADER, "guard")
    try:
        assert until(lambda: status(armed)["guard"], within=10, step=0.1)
        for _ in range(20):
            armed.run("nft", "flush", "ruleset")
            assert not sends(armed)
        assert until(lambda: status(armed)["state"] == "armed", within=30, step=0.1)
        refused = armed.run("nft", "delete", "table", "inet", "failshut-guard")
        assert refused.returncode != 0
        assert not sends(armed)
    finally:
        guard.kill()
        guard.communicate()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_the_loader(armed):
    """The one program that must not fail at boot is read by a second pair of eyes."""
    done = armed.run("shellcheck", "--shell=dash", "/etc/failshut/load")

    assert done.returncode == 0, done.stdout
