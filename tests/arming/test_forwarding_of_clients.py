"""Routed clients and guests of a bridge under the armed lock: the tunnel is their only way out, or there is none."""

from __future__ import annotations

import pytest

from boot import noise
from failshut.drill.network.wait import until
from gateway import BRIDGE, FLOW4, FLOW6, ROUTED, TUNNEL_ADDRESSES, Gateway, Host
from needed import needs, needs_root_and

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

TUNNEL, BLOCK = 'mode = "tunnel"\nclients = ["eth1"]\n', 'mode = "block"\n'
CLIENT, STRANGER, GUEST = ({f"10.{n}.0.2", f"fd0{n}::2"} for n in (1, 2, 3))
_SERVICE_PORT = 9100
_SERVICE = f"""
import socket
listening = socket.create_server(("", {_SERVICE_PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    listening.accept()[0].close()
"""


@pytest.fixture
def machine():
    """A gateway whose tunnel is down and whose lock is off."""
    needs_root_and("nft", "wg", "wg-quick", "ip", "unshare", "nsenter")
    with Gateway() as gateway:
        yield gateway


def make_noise(machine: Gateway) -> None:
    for each in machine.hosts.values():
        each.make_noise()


def hear_noise(machine: Gateway) -> None:
    for each in machine.hosts.values():
        each.hear_noise()


def received(seen, place: str) -> set[str]:
    """Return whom the server called at one place."""
    return {str(each.packet.target) for each in seen.at(place) if str(each.packet.source) in {"10.99.0.1", "fd99::1"}}


def test_without_the_lock_everybody_leaves_by_the_cable(machine):
    """The control: strangers use the tunnel, the server calls clients by it, and when it falls, running flows and new ones leak."""
    machine.adopt(TUNNEL)
    machine.client.pump()
    make_noise(machine)
    with machine.watched() as up:
        for address in CLIENT:
            machine.calls(address)
        hear_noise(machine)
    machine.must("wg-quick", "down", "wg0")
    with machine.watched() as down:
        hear_noise(machine)

    assert all(up.tunnelled[kind] & STRANGER for kind in ROUTED)
    assert received(up, "client") == CLIENT
    assert set(down.leaked) >= ROUTED | {"flow"}
    assert all(down.leaked[kind] & them for kind in ROUTED for them in (CLIENT, STRANGER, GUEST))
    assert down.leaked["flow"] == CLIENT


@pytest.mark.scenario(112, 113)
def test_clients_and_guests_leave_by_the_tunnel_alone(machine):
    """With the tunnel's address, by both families; not whoever is not named. When it falls, nothing of theirs is on the cable."""
    machine.adopt(TUNNEL)
    machine.arm()
    for each in (machine.client, machine.guest):
        each.pump()
    make_noise(machine)
    with machine.watched() as up:
        hear_noise(machine)
    machine.must("wg-quick", "down", "wg0")
    with machine.watched() as down:
        hear_noise(machine)
    machine.must("wg-quick", "up", "wg0")

    assert set(up.tunnelled) >= ROUTED | {"flow"}
    assert set().union(*up.tunnelled.values()) == TUNNEL_ADDRESSES
    assert up.leaks == down.leaks == []
    assert down.pairs == []
    assert all(each.connects(site, seconds=10) for each in (machine.client, machine.guest) for site in (FLOW4, FLOW6))
    assert not any(machine.stranger.connects(site, seconds=1) for site in (FLOW4, FLOW6))


def test_the_server_calls_nobody_behind_the_machine(machine):
    """Only answers come back from the tunnel."""
    machine.adopt(TUNNEL)
    machine.arm()
    assert machine.client.connects(FLOW4)
    with machine.watched() as seen:
        for address in CLIENT | STRANGER:
            machine.calls(address)
        # The calls came first: what carries this carried them.
        assert machine.client.connects(FLOW6)

    assert received(seen, "client") == received(seen, "stranger") == set()


@pytest.mark.scenario(112, 113)
def test_where_forwarding_is_blocked_nobody_leaves_at_all(machine):
    """Neither by the tunnel nor by the cable, with flows that were running when the lock came."""
    machine.adopt(BLOCK)
    machine.client.pump()
    machine.guest.pump()
    machine.arm()
    make_noise(machine)
    with machine.watched() as up:
        hear_noise(machine)
    machine.must("wg-quick", "down", "wg0")
    with machine.watched() as down:
        hear_noise(machine)

    assert up.pairs == down.pairs == []
    assert up.leaks == down.leaks == []


def test_a_client_reaches_neither_the_machine_nor_the_networks_beside_the_tunnel(machine):
    """Not its services, not the underlay's router, not a stranger's network, not the guests."""
    machine.adopt(TUNNEL)
    serve(machine)
    sites = [("10.1.0.1", _SERVICE_PORT), ("fd01::1", _SERVICE_PORT), ("10.3.0.1", _SERVICE_PORT)]
    assert all(machine.client.connects(*site) for site in sites), "the control"
    machine.arm()
    make_noise(machine)
    with machine.watched() as seen:
        for site in (*sites, ("10.2.0.2", 22), ("10.3.0.2", 22), ("192.168.50.1", 22)):
            assert not machine.client.connects(*site, seconds=1)

    assert seen.leaks == []
    assert [each for each in seen.at("stranger") if str(each.packet.source) in CLIENT] == []


def serve(machine: Gateway, host: Host | None = None) -> None:
    started = (host or machine).start("python3", "-c", _SERVICE)
    assert started.stdout.readline() == "listening\n"


@pytest.mark.parametrize("forward", [TUNNEL, BLOCK], ids=["tunnel", "block"])
def test_guests_reach_the_machine_and_each_other(machine, forward):
    """By libvirt's bridge and by a second one, as Docker makes it after arming; DHCP and look-ups from the machine's dnsmasq."""
    needs("dnsmasq", "udhcpc")
    machine.adopt(forward)
    machine.arm()
    other = Host(machine)
    try:
        machine.must("ip", "link", "add", "br-later", "type", "bridge")
        machine.connect("later", other, 4, bridge="br-later")
        for each in (None, machine.guest, other):
            serve(machine, each)
        dnsmasq = machine.start(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--interface={BRIDGE}", "--bind-dynamic", "--no-resolv"),
            *("--dhcp-range=10.3.0.40,10.3.0.49,1h", "--dhcp-leasefile=/run/leases", "--pid-file=/run/dnsmasq.pid", "--user=root"),
            *("--address=/machine.test/10.3.0.1", "--no-hosts"),
        )
        lease = ("udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "10", "-s", "/bin/true")
        assert machine.guest.run(*lease)[0] == 0
        sites = ("10.3.0.1", "fd03::1", "10.4.0.2", "fd04::2")
        assert all(machine.guest.connects(site, _SERVICE_PORT) for site in sites)
        assert other.connects("10.3.0.2", _SERVICE_PORT)
        assert until(lambda: looks_up(machine.guest), within=10)
        dnsmasq.kill()
        dnsmasq.communicate()
        assert other.connects(FLOW4, seconds=3) == other.connects(FLOW6, seconds=3) == (forward is TUNNEL)
    finally:
        other.close()


def looks_up(host: Host) -> bool:
    """Whether the machine's resolver answers a question for machine.test."""
    ask = r"""
import socket
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(1)
asking.sendto(b"\0\7\1\0\0\1\0\0\0\0\0\0\7machine\4test\0\0\1\0\1", ("10.3.0.1", 53))
assert asking.recv(512)[-4:] == bytes((10, 3, 0, 1))
"""
    return host.run("python3", "-c", ask)[0] == 0


@pytest.mark.scenario(105)
@pytest.mark.parametrize("locked", [False, True], ids=["control", "locked"])
def test_a_bridge_that_gets_a_port_to_the_outside_is_held_by_the_port(machine, locked):
    """Its name still fits, and the choke point lets the machine's packets pass: the layer under IP holds them, and the guests'."""
    machine.must("ip", "link", "add", "link", "eth2", "name", "uplink", "type", "macvlan", "mode", "passthru")
    machine.must("ip", "link", "set", "uplink", "up")
    machine.adopt(TUNNEL)
    if locked:
        machine.arm()
    machine.guest.make_noise()
    machine.stranger.must("ip", "addr", "add", "10.3.0.9/24", "dev", "eth0")
    with machine.watched() as seen:
        machine.must("ip", "link", "set", "uplink", "master", BRIDGE)
        for host in (machine, machine.guest):
            host.run("python3", "-c", f"import socket; socket.create_connection(('10.3.0.9', {noise.PORT}), 1)")
        machine.guest.hear_noise()
    sources = {str(each.packet.source) for each in seen.at("stranger") if each.packet.source}
    wanted = {"10.3.0.1", "10.3.0.2", "192.0.2.1"}

    assert sources & wanted == (set() if locked else wanted)
    if locked:
        machine.arm()
        assert f'oifname != "{BRIDGE}"' in machine.must("nft", "list", "chain", "inet", "failshut", "postrouting")
        assert "group 26209" in machine.must("ip", "link", "show", BRIDGE)
