"""What is open for a time: exactly that, and until the kernel ends it. Judged at the cable's other end."""

from __future__ import annotations

import json

import pytest

from amount import amount
from failshut.drill.network.wait import until
from grouped import ECHO, INTERNET4, ROUTER4, TUNNEL4, UNDERLAY4

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/python3"
# A datagram with a word in it to each site, by a user of this number.
SAY = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
for site in sys.argv[3:]:
    host, _, port = site.rpartition("/")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(sys.argv[1].encode(), (host, int(port)))
        except OSError:
            pass
"""


def say(machine, word: str, *sites: str, uid: int = 1000) -> None:
    machine.must(PYTHON, "-c", SAY, word, str(uid), *sites)


def in_the_clear(frames) -> set[tuple[str, int, str]]:
    return {(each.target, each.port, each.payload) for each in frames if each.device == "cable" and each.payload.strip()}


def allow(machine, *argv: str) -> None:
    done = machine.failshut("allow", *argv)
    assert done.returncode == 0, done.stderr


def is_shut(machine) -> bool:
    return not json.loads(machine.failshut("status", "--json").stdout)["open"]


def test_a_site_is_open_to_its_port_protocol_and_user_and_to_nothing_next_to_it(grouped):
    """The tunnel is down: the site's word is seen in the clear, that of the next port, address or user is not."""
    grouped.arm()
    grouped.must("wg-quick", "down", "wg0")
    allow(grouped, "to", f"{INTERNET4}:9001/udp", "--for", "10m", "--user", "1000")
    grouped.watch()

    say(grouped, "allowed", f"{INTERNET4}/9001")
    say(grouped, "next", f"{INTERNET4}/9002", "198.51.100.8/9001", "2001:db8:7::7/9001")
    say(grouped, "another", f"{INTERNET4}/9001", uid=1001)
    say(grouped, "root", f"{INTERNET4}/9001", uid=0)

    assert in_the_clear(grouped.seen()) == {(INTERNET4, 9001, "allowed")}
    grouped.must("nft", "delete", "table", "inet", "failshut")
    grouped.must("nft", "delete", "table", "netdev", "failshut")
    grouped.watch()
    say(grouped, "next", f"{INTERNET4}/9002")
    assert in_the_clear(grouped.seen()) == {(INTERNET4, 9002, "next")}, "the control: without the lock the next port is reached"


def test_with_the_tunnel_up_an_open_site_is_reached_beside_it_and_all_else_through_it(grouped):
    """The answer says which way the question came: TCP to the site from the underlay's address, UDP to it from the tunnel's."""
    grouped.arm()
    allow(grouped, "to", f"{INTERNET4}:{ECHO}/tcp", "--for", "10m")

    seen = grouped.ask()

    assert seen["tcp4"] == UNDERLAY4
    assert seen["udp4"] == TUNNEL4


def test_the_kernel_ends_it_also_for_a_flow_that_is_under_way(grouped):
    """Nothing of ours runs: after the deadline the same socket is refused; before it, it was heard."""
    grouped.arm()
    grouped.must("wg-quick", "down", "wg0")
    allow(grouped, "to", f"{INTERNET4}:9001/udp", "--for", "3s")
    grouped.watch()

    say(grouped, "in time", f"{INTERNET4}/9001")
    assert until(lambda: is_shut(grouped), within=30, step=0.2)
    say(grouped, "too late", f"{INTERNET4}/9001")

    assert in_the_clear(grouped.seen()) == {(INTERNET4, 9001, "in time")}


def test_nothing_is_open_any_more_when_the_machine_goes_to_sleep(grouped):
    """The kernel's deadlines stand still while it sleeps, and it may wake up elsewhere. The control: before, both are reached."""
    grouped.arm("[allow.lan]\non_demand = true\nprefixes = ['192.168.50.0/24']")
    grouped.must("wg-quick", "down", "wg0")
    allow(grouped, "to", f"{INTERNET4}:9001/udp", "--for", "10m")
    allow(grouped, "lan", "--for", "10m")

    def reached() -> set[str]:
        grouped.watch()
        say(grouped, "allowed", f"{INTERNET4}/9001", f"{ROUTER4}/9001")
        return {target for target, _, _ in in_the_clear(grouped.seen())}

    assert reached() == {INTERNET4, ROUTER4}, "the control"
    grouped.must("sh", "/etc/failshut/load", "asleep")
    assert reached() == set()
    assert is_shut(grouped)


def test_revoking_ends_it_at_once_and_only_it(grouped):
    """Two sites are open, one is revoked: the other goes on; --all ends that too."""
    grouped.arm()
    grouped.must("wg-quick", "down", "wg0")
    for port in (9001, 9002):
        allow(grouped, "to", f"{INTERNET4}:{port}/udp", "--for", "10m")
    sites = (f"{INTERNET4}/9001", f"{INTERNET4}/9002")
    grouped.watch()

    say(grouped, "both", *sites)
    assert grouped.failshut("revoke", "to", f"{INTERNET4}:9001/udp").returncode == 0
    say(grouped, "one", *sites)
    assert grouped.failshut("revoke", "--all").returncode == 0
    say(grouped, "none", *sites)

    assert in_the_clear(grouped.seen()) == {(INTERNET4, 9001, "both"), (INTERNET4, 9002, "both"), (INTERNET4, 9002, "one")}
    assert is_shut(grouped)


def test_arming_again_neither_ends_nor_lengthens_it(grouped):
    """The element keeps its deadline; status goes on to show it, and the lock is as armed."""
    grouped.arm()
    allow(grouped, "to", f"{INTERNET4}:9001/udp", "--for", "10m")

    assert grouped.failshut("arm").returncode == 0

    status = json.loads(grouped.failshut("status", "--json").stdout)
    assert status["state"] == "armed", status["reason"]
    (open_now,) = status["open"]
    assert open_now["what"] == f"to {INTERNET4}:9001/udp"
    assert 0 < open_now["seconds"] <= 600


# Datagrams to one site, until there is a line of input; prints how many.
FLOOD = f"""
import select, socket, sys
tried = 0
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        tried += 1
        try:
            sock.sendto(b"flood", ("{INTERNET4}", 9002))
        except OSError:
            pass
print(tried)
"""


def test_the_rules_for_it_come_with_the_first_and_go_with_an_arming_and_no_packet_leaves_meanwhile(grouped):
    """Opened, ended and armed again under a flood to the site's next port: none of it is seen while the lock stands."""
    grouped.arm()
    grouped.must("wg-quick", "down", "wg0")
    grouped.watch()
    flood = grouped.start(PYTHON, "-c", FLOOD)
    assert flood.stdout.readline().strip() == "ready"

    for _ in range(amount(usually=2, thoroughly=10)):
        assert "timed" not in grouped.must("nft", "list", "table", "inet", "failshut")
        allow(grouped, "to", f"{INTERNET4}:9001/udp", "--for", "10m")
        say(grouped, "open", f"{INTERNET4}/9001")
        assert "timed" in grouped.must("nft", "list", "table", "inet", "failshut")
        assert grouped.failshut("revoke", "--all").returncode == 0
        assert grouped.failshut("arm").returncode == 0
    shut = in_the_clear(grouped.seen())
    grouped.watch()
    grouped.must("nft", "delete", "table", "inet", "failshut")
    grouped.must("nft", "delete", "table", "netdev", "failshut")
    say(grouped, "control", f"{INTERNET4}/9002")
    assert (INTERNET4, 9002, "control") in in_the_clear(grouped.seen()), "the control: without the lock it is reached"
    tried, _ = flood.communicate("\n", timeout=30)

    assert int(tried) > 1000
    assert shut == {(INTERNET4, 9001, "open")}


def test_a_policy_that_was_written_since_is_not_armed_by_the_way(grouped):
    """Exit code 1 and the remedy; the lock stands as it was, and nothing is open."""
    grouped.arm()
    before = grouped.must("nft", "list", "table", "inet", "failshut")
    grouped.must("sh", "-c", "printf '[allow.lan]\\nprefixes = [\"192.168.50.0/24\"]\\n' >> /etc/failshut/failshut.toml")

    done = grouped.failshut("allow", "to", f"{INTERNET4}:9001/udp", "--for", "10m")

    assert done.returncode == 1
    assert "is not what was armed" in done.stderr
    assert "failshut arm" in done.stderr
    assert grouped.must("nft", "list", "table", "inet", "failshut") == before


def test_the_lan_is_open_without_its_names_and_no_further_than_the_link(grouped):
    """For a time: the LAN's printer, with hop limit 1; not its resolver, not the network next to it."""
    grouped.arm()
    allow(grouped, "lan", "192.168.50.0/24", "--for", "10m")
    grouped.watch()

    say(grouped, "printer", f"{ROUTER4}/631")
    say(grouped, "names", f"{ROUTER4}/53", f"{ROUTER4}/853", f"{ROUTER4}/5353")
    say(grouped, "beside", "192.168.51.1/631")
    frames = grouped.seen()

    assert in_the_clear(frames) == {(ROUTER4, 631, "printer")}
    assert {each.hops for each in frames if each.payload == "printer"} == {1}


@pytest.mark.parametrize("name", ["lan", "pin"])
def test_what_the_policy_holds_back_is_open_after_it_was_asked_for_and_until_it_is_revoked(grouped, name):
    """Held back: nothing is seen; open: exactly it; revoked: nothing again."""
    lan = '[allow.lan]\nprefixes = ["192.168.50.0/24"]\non_demand = true\n'
    pin = f'[[allow.outbound]]\nname = "pin"\nprotocol = "udp"\nto = ["{INTERNET4}"]\nport = 9001\non_demand = true\n'
    grouped.arm(lan, pin)
    grouped.must("wg-quick", "down", "wg0")
    sites = (f"{ROUTER4}/631", f"{INTERNET4}/9001", f"{INTERNET4}/9002")
    mine = {"lan": (ROUTER4, 631), "pin": (INTERNET4, 9001)}[name]
    grouped.watch()

    say(grouped, "before", *sites)
    allow(grouped, name, "--for", "10m")
    say(grouped, "open", *sites)
    assert grouped.failshut("revoke", name).returncode == 0
    say(grouped, "after", *sites)

    assert in_the_clear(grouped.seen()) == {(*mine, "open")}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("lan", "--for", "10m"), "the policy names no LAN"),
        (("lan", "0.0.0.0/0", "--for", "10m"), "no local network"),
        (("lan", "203.0.113.0/24", "--for", "10m"), "is public"),
        (("lan", "10.99.0.0/24", "--for", "10m"), "own address"),
        (("to", "203.0.113.10:443/tcp", "--for", "10m"), "covers wg0's endpoint"),
        (("to", "192.0.2.7:53/udp", "--for", "10m"), "name look-ups"),
        (("to", "192.0.2.7:443/tcp", "--for", "365d"), "365 days"),
        (("to", "192.0.2.7:443/tcp", "--for", "0s"), "no time at all"),
        (("to", "192.0.2.7:443/tcp", "--for", "soon"), "is no time"),
        (("to", "printer.lan:443/tcp", "--for", "5m"), "is no site"),
        (("to", "192.0.2.7:70000/tcp", "--for", "5m"), "port"),
        (("to", "192.0.2.7:443/tcp", "--for", "5m", "--user", "nobody-here"), "no user"),
        (("to", "192.0.2.0/24:443/tcp", "--for", "5m", "--user", "0"), "goes with one address"),
        (("printer", "--for", "5m"), "no allowance 'printer'"),
    ],
)
def test_what_can_t_be_meant_is_refused_with_its_reason_and_opens_nothing(armed, argv, said):
    """Exit code 2, the reason, and not one element in any set."""
    done = armed.failshut("allow", *argv)

    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert is_shut(armed)


def test_what_is_wide_opens_for_those_who_know(armed):
    """--i-know says the same as a warning, and opens it."""
    done = armed.failshut("allow", "to", "192.0.2.7:53/udp", "--for", "10m", "--i-know")

    assert done.returncode == 0
    assert "warning" in done.stderr
    assert not is_shut(armed)


@pytest.fixture(scope="module")
def armed():
    """One armed machine for every refusal: none of them changes it."""
    from grouped import Grouped, needs_programs  # noqa: PLC0415 - its skip belongs to the tests that use it

    needs_programs()
    with Grouped() as private:
        private.arm()
        yield private
