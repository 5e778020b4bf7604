"""A tunnel's server that moves: found again by handshakes alone, whatever a resolver says, and nothing else leaves meanwhile."""

from __future__ import annotations

import json

import pytest

from connected import SERVER
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

    outcome = json.loads(done.stdout)["tunnels"]["wg0"]
    assert outcome["state"] == "pinned", done.stdout + done.stderr
    assert done.returncode == 0
    assert left == {("tcp", RESOLVER, 853), ("udp", SERVER, 51820), ("udp", MOVED, 51820)}
    assert machine.carries()
    assert machine.endpoint() == f"{MOVED}:51820"
    assert machine.pins() == [MOVED]
    assert machine.is_shut(within=0)
    assert machine.failshut("status").returncode == 0
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
