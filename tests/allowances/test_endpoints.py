"""A tunnel's server that moves: found again by handshakes alone, whatever a resolver says, and nothing else leaves meanwhile."""

from __future__ import annotations

import json
import sys

import pytest

from amount import thorough
from connected import INNER, SERVER
from failshut.drill.network.wait import until
from moving import BY_NAME, LIAR, MOVED, NAME, RESOLVER, Moving

pytestmark = pytest.mark.lab


@pytest.fixture
def machine():
    """A connected machine with a resolver; gone when the test ends."""
    with Moving() as private:
        yield private


def test_a_server_that_moved_is_found_by_one_query_over_tls_and_pinned(machine):
    """Only the query and handshakes leave; then the tunnel works, also under strict reverse-path filters, and the pin stays."""
    machine.arm()
    assert machine.pins() == [SERVER]
    machine.must("sh", "-c", "for each in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$each; done")
    machine.move()
    machine.zone(MOVED)
    # The control: by itself the tunnel finds nothing, and the lock does not let it go there.
    machine.must("wg", "set", "wg0", "peer", machine.must("wg", "show", "wg0", "peers").strip(), "endpoint", f"{MOVED}:51820")
    with machine.watched() as refused:
        assert not machine.carries()
    assert refused == set()

    with machine.watched() as left:
        done = machine.refresh("--json")

    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)["tunnels"]["wg0"]
    assert outcome["state"] == "pinned", done.stdout + done.stderr
    assert done.returncode == 0
    assert left == {("tcp", RESOLVER, 853), ("udp", SERVER, 51820), ("udp", MOVED, 51820)}
    assert machine.carries()
    assert machine.endpoint() == f"{MOVED}:51820"
    assert machine.pins() == [MOVED]
    assert machine.is_shut(within=0)
    status = machine.failshut("status")
    assert status.returncode == 0
    assert f"{NAME} at {MOVED} since" in status.stdout
    quiet = machine.refresh("-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_lie_changes_nothing_and_nothing_may_go_there_afterwards(machine):
    """A host without the key that answers all the same, the LAN, loopback, nowhere: at most one handshake goes out."""
    machine.arm()
    machine.move()
    machine.zone(LIAR, "192.168.50.7", "127.0.0.1", "0.0.0.0", "255.255.255.255", "10.0.0.1", "10.99.0.2")
    before = machine.must("nft", "-s", "-t", "list", "table", "inet", "failshut")
    endpoint = machine.endpoint()

    with machine.watched() as left:
        done = machine.refresh("--json")

    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads(done.stdout)["tunnels"]["wg0"]["state"] == "stale"
    assert left == {("tcp", RESOLVER, 853), ("udp", SERVER, 51820), ("udp", LIAR, 51820)}
    assert machine.pins() == [SERVER]
    assert machine.endpoint() == endpoint == f"{SERVER}:51820"
    assert machine.must("nft", "-s", "-t", "list", "table", "inet", "failshut") == before
    assert machine.is_shut(within=0)
    peer = machine.must("wg", "show", "wg0", "peers").strip()
    machine.must("wg", "set", "wg0", "peer", peer, "endpoint", f"{LIAR}:51820")
    with machine.watched() as after:
        assert not machine.carries()
    assert after == set()


def test_a_name_is_not_looked_up_again_when_the_lock_is_armed_again(machine):
    """With the tunnel down the look-up would be refused; with a lying resolver it would be a hole."""
    machine.arm()
    machine.zone(LIAR)
    machine.must("wg-quick", "down", "wg0")

    with machine.watched() as left:
        again = machine.failshut("arm")

    assert again.returncode == 0, again.stderr
    assert left == set()
    assert machine.pins() == [SERVER]
    assert machine.failshut("plan", "--exit-code").returncode == 0
    # The control: disarmed, the pin is forgotten, and the resolver is believed.
    assert machine.failshut("disarm", "--yes").returncode == 0
    assert machine.failshut("arm").returncode == 0
    assert machine.pins() == [LIAR]


def test_what_was_written_since_is_not_armed_by_a_timer(machine):
    """A half-finished edit is the user's to arm."""
    machine.arm()
    machine.write("/etc/failshut/failshut.toml", BY_NAME.replace("192.168.50.0/24", "192.168.0.0/16"))

    done = machine.refresh()

    assert done.returncode == 1
    assert "is not what was armed" in done.stderr
    assert NAME not in done.stdout


@pytest.mark.parametrize("name", ["other.lab.test", "dns.lab.test"])
def test_a_resolver_with_a_wrong_certificate_is_not_believed(machine, name):
    """Trusted but of another name, or of that name and not trusted: no address is tried."""
    machine.arm()
    machine.certify(name, trusted=name == "other.lab.test")
    machine.move()
    machine.zone(MOVED)

    with machine.watched() as left:
        done = machine.refresh("--json")

    assert done.returncode == 1
    assert "certificate" in done.stdout
    assert left == {("tcp", RESOLVER, 853), ("udp", SERVER, 51820)}
    assert machine.pins() == [SERVER]


def test_only_our_own_socket_reaches_the_resolver(machine):
    """Not root without the mark, not the mark with CAP_NET_RAW alone, not another port; not ours once the kernel has shut it."""
    machine.arm()
    machine.must("wg-quick", "down", "wg0")
    mark = machine.mark()
    raw = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw")
    assert machine.run(*connecting(853, mark)).returncode != 0
    where = f"{RESOLVER} . tcp . 853"
    machine.must("nft", "add", "element", "inet", "failshut", "probe4", f"{{ {where} timeout 600s }}")

    with machine.watched() as left:
        assert machine.run(*connecting(853, mark)).returncode == 0
    with machine.watched() as others:
        refused = [
            machine.run(*connecting(853, 0)).returncode,
            machine.run(*raw, *connecting(853, mark)).returncode,
            machine.run(*connecting(53, mark)).returncode,
            machine.run(*connecting(443, mark)).returncode,
        ]
    machine.must("nft", "delete", "element", "inet", "failshut", "probe4", f"{{ {where} }}")
    machine.must("nft", "add", "element", "inet", "failshut", "probe4", f"{{ {where} timeout 1s }}")

    assert left == {("tcp", RESOLVER, 853)}
    assert all(refused)
    assert others == set()
    assert machine.is_shut()
    assert machine.run(*connecting(853, mark)).returncode != 0


def test_the_tunnel_fails_over_between_its_pinned_endpoints(machine):
    """In the policy's order; nobody is asked, and the lock stays as it is."""
    machine.arm(BY_NAME.replace(f'"{NAME}:51820"', f'"{SERVER}:51820", "{LIAR}:51820", "{MOVED}:51820"'))
    machine.move()
    before = machine.must("nft", "-s", "-t", "list", "table", "inet", "failshut")

    with machine.watched() as left:
        done = machine.refresh("--json")

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["tunnels"]["wg0"]["state"] == "failed-over"
    assert left == {("udp", SERVER, 51820), ("udp", LIAR, 51820), ("udp", MOVED, 51820)}
    assert machine.carries()
    assert machine.endpoint() == f"{MOVED}:51820"
    assert machine.must("nft", "-s", "-t", "list", "table", "inet", "failshut") == before


def test_what_the_tunnels_own_resolver_said_is_tried_when_the_tunnel_falls(machine):
    """A move that is announced while the tunnel works needs no query beside it; a handshake is asked for all the same."""
    machine.arm(BY_NAME.split("[endpoint]", maxsplit=1)[0])
    machine.write("/etc/resolv.conf", f"nameserver {INNER}\n")
    machine.zone(MOVED)
    with machine.watched() as working:
        assert machine.refresh("-q").returncode == 0
    assert working == {("udp", SERVER, 51820)}
    assert machine.pins() == [SERVER]
    machine.move()

    with machine.watched() as left:
        done = machine.refresh("--json")

    assert done.returncode == 0, done.stdout + done.stderr
    assert left == {("udp", SERVER, 51820), ("udp", MOVED, 51820)}
    assert machine.pins() == [MOVED]
    assert machine.carries()


@pytest.mark.parametrize("step", [pytest.param("asking", marks=thorough), pytest.param("trying", marks=thorough), "arming"])
def test_killed_at_any_step_the_lock_holds_and_what_was_open_ends(machine, step):
    """SIGKILL while the query, the handshake or the arming is under way; the next run completes what it began."""
    machine.arm()
    machine.move()
    machine.zone(*(LIAR,) if step == "trying" else (MOVED,))
    machine.delay(30 if step == "asking" else 0)
    at_the_step = {
        "asking": lambda: machine.elements("probe4"),
        "trying": lambda: machine.elements("candidates4"),
        "arming": lambda: machine.run("sh", "-c", "ls -d /etc/failshut/armed/.[0-9]*").returncode == 0,
    }[step]
    process = machine.refreshing()

    assert until(at_the_step, within=60, step=0.02)
    # The process is refresh itself: nsenter, env and setpriv have become it.
    process.kill()
    process.communicate()

    with machine.watched() as left:
        assert machine.is_shut()
        machine.run("ping", "-c1", "-W1", "198.51.100.7")
    assert left <= {("udp", each, 51820) for each in (SERVER, LIAR, MOVED)}
    # Cut off between the kernel and the record, an arming shows as drift; the lock in the kernel is whole.
    assert json.loads(machine.failshut("status", "--json").stdout)["state"] in (
        {"armed", "drift"} if step == "arming" else {"armed"}
    )
    machine.zone(MOVED)
    machine.delay(0)
    assert machine.refresh().returncode == 0
    assert machine.pins() == [MOVED]
    assert machine.carries()
    assert json.loads(machine.failshut("status", "--json").stdout)["state"] == "armed"


def test_a_config_with_a_name_comes_up_by_its_pin(machine):
    """wg-quick would look the name up, which the lock refuses; `--up` shows it the pin in a hosts file of its own."""
    machine.arm('[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n', server=NAME)
    hosts = machine.read("/etc/hosts")
    machine.must("wg-quick", "down", "wg0")
    # The control.
    assert machine.run("env", "WG_ENDPOINT_RESOLUTION_RETRIES=0", "wg-quick", "up", "wg0").returncode != 0

    with machine.watched() as left:
        done = machine.refresh("--up", "wg0")

    assert done.returncode == 0, done.stdout + done.stderr
    assert left == {("udp", SERVER, 51820)}
    assert machine.carries()
    assert machine.read("/etc/hosts") == hosts


def connecting(port, mark):
    """Return the words that connect to the resolver with a mark."""
    script = (
        "import socket; s=socket.socket(); s.settimeout(3)\n"
        f"if {mark}: s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, {mark.to_bytes(4, sys.byteorder)!r})\n"
        f"s.connect(('{RESOLVER}', {port}))"
    )
    return ("/usr/bin/python3", "-c", script)
