"""Routing as it is armed, with the real wg-quick: what an injected route starves, what stays reachable, and what is left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from ipaddress import ip_address, ip_network

import pytest

from connected import INNER, SINK_PORT, Connected
from failshut.drill.network.wait import until
from failshut.emit.routing import emit_rules
from failshut.lower.routing import lower_routing
from failshut.model.host import HostFacts
from failshut.model.policy import Forward, ForwardMode, Inbound, Lan, MulticastName, Outbound, Policy, Tailscale, Tunnel
from failshut.model.routing import IpVersion
from failshut.model.units import Endpoint, InterfaceName, Mark, Port, Protocol
from failshut.read.routing import parse_rules
from needed import needs_root_and
from sandbox import FAILSHUT, POLICY

pytestmark = pytest.mark.lab

LAN_HOST = "192.168.50.1"
# A host beyond the link, behind the cable's other end.
FAR = "198.51.100.7"
ROUTER, TURNS = "/etc/failshut/route", "/run/failshut-routing"
SERVICES = """
[[allow.inbound]]
name = "echo"
protocol = "udp"
port = 9000
"""
_ECHO = """
import socket
unbound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
unbound.bind(("", 9000))
print("listening", flush=True)
while True:
    data, caller = unbound.recvfrom(2048)
    unbound.sendto(data, caller)
"""
_ASK = f"""
import socket
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.bind(("{FAR}", 0))
asking.settimeout(1)
for attempt in range(3):
    asking.sendto(b"hello", ("192.168.50.2", 9000))
    try:
        print(asking.recvfrom(2048)[1][0])
        break
    except TimeoutError:
        pass
"""


@pytest.fixture
def machine():
    """A machine with a tunnel that works, its policy adopted; the tunnel is up, the lock is off."""
    needs_root_and("nft", "wg", "wg-quick", "ip", "unshare", "nsenter")
    with Connected() as connected:
        connected.adopt_tunnel()
        yield connected


def arm(machine) -> None:
    done = machine.failshut("arm")
    assert done.returncode == 0, done.stderr


def status(machine) -> dict:
    return json.loads(machine.failshut("status", "--json").stdout)


def way(machine, destination: str, *more: str) -> str:
    """Return the device by which the kernel would send to a destination; empty when there is none."""
    words = machine.run("ip", "route", "get", destination, *more).stdout.split()
    return words[words.index("dev") + 1] if "dev" in words else ""


def rules(machine) -> str:
    return machine.must("ip", "rule") + machine.must("ip", "-6", "rule")


def cycle(machine) -> None:
    machine.must("wg-quick", "down", "wg0")
    machine.must("wg-quick", "up", "wg0")


def connects(machine, address: str, port: int = SINK_PORT, seconds: int = 2) -> bool:
    script = f"import socket; socket.create_connection(({address!r}, {port}), {seconds})"
    return machine.run("python3", "-c", script).returncode == 0


@pytest.mark.parametrize("cycles", [0, 1, 2])
def test_a_route_injected_on_the_underlay_starves_nothing(machine, cycles):
    """TunnelVision's selective denial (CVE-2024-3661): a DHCP lease brings a route that is more specific than the tunnel's.

    With the stock rules the flow is drawn to the underlay, where the lock refuses it; with ours it goes on through the tunnel. The
    same after wg-quick was down and up again, whose rules then stand behind ours.
    """
    arm(machine)
    for _ in range(cycles):
        cycle(machine)
    for prefix in (f"{INNER}/24", "203.0.113.0/24"):
        network = prefix.replace(f"{INNER}/", "10.99.0.0/")
        machine.must("ip", "route", "add", network, "via", LAN_HOST, "dev", "eth0")
    machine.must("ip", "-6", "route", "add", "fd99::/64", "via", "fd50::1", "dev", "eth0")

    assert way(machine, INNER) == "wg0"
    assert way(machine, "fd99::7") == "wg0"
    assert connects(machine, INNER)

    machine.must("sh", ROUTER, "clear")
    assert way(machine, INNER) == way(machine, "fd99::7") == "eth0", "the control: the stock rules look at the injected route first"
    assert not connects(machine, INNER), "the control: it starves"


def test_an_injected_half_of_the_internet_starves_nothing(machine):
    """Two routes of one bit each win over a default route; they are as much of the underlay as any other."""
    arm(machine)
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        machine.must("ip", "route", "add", half, "via", LAN_HOST, "dev", "eth0")

    assert way(machine, INNER) == "wg0"
    machine.must("sh", ROUTER, "clear")
    assert way(machine, INNER) == "eth0", "the control"


def test_the_lan_is_reached_beside_the_tunnel_and_what_is_next_to_it_is_not(machine):
    """An allowed prefix by its own device, the next address by the tunnel; also after the tunnel's restart."""
    arm(machine)

    for _ in range(2):
        assert connects(machine, LAN_HOST)
        assert way(machine, "192.168.51.1") == "wg0"
        cycle(machine)


def test_away_from_home_the_lan_is_left_to_the_tunnel(machine):
    """The prefix is allowed, but not on this link: the gateway of a foreign network does not hear of it."""
    machine.write("/etc/failshut/failshut.toml", POLICY.replace("192.168.50.0/24", "192.168.77.0/24"))
    arm(machine)

    assert way(machine, "192.168.77.9") == "wg0"


def test_a_lease_is_renewed_by_the_underlay(machine):
    """A DHCP client renews by unicast, from 68 to 67, to a server that may be beyond the link; a datagram to port 69 is no such."""
    renewal = ("ipproto", "udp", "sport", "68", "dport")
    assert way(machine, FAR, *renewal, "67") == "wg0", "the control: stock rules send it into the tunnel"

    arm(machine)

    assert way(machine, FAR, *renewal, "67") == "eth0"
    assert way(machine, FAR, *renewal, "69") == "wg0"
    assert way(machine, "2001:db8::7", "ipproto", "udp", "sport", "546", "dport", "547") == "eth0"


def test_a_pin_is_reached_by_its_user_and_port_alone(machine):
    """An address with its port, and only for the user it is for: everything else to the same address takes the tunnel."""
    pin = f'\n[[allow.outbound]]\nname = "proxy"\nprotocol = "tcp"\nto = ["{FAR}"]\nport = 3128\nuser = 33\n'
    machine.write("/etc/failshut/failshut.toml", POLICY + pin)
    arm(machine)

    theirs = ("ipproto", "tcp", "dport", "3128", "uid")
    assert way(machine, FAR, *theirs, "33") == "eth0"
    assert way(machine, FAR, *theirs, "34") == "wg0"
    assert way(machine, FAR, "ipproto", "tcp", "dport", "3129", "uid", "33") == "wg0"
    assert way(machine, FAR, "ipproto", "udp", "dport", "3128", "uid", "33") == "wg0"


def test_a_udp_service_that_is_bound_to_no_address_answers_beyond_the_link(machine):
    """Its answer is routed, and given its source, by the way it came; without our rule it is given the tunnel's."""
    machine.write("/etc/failshut/failshut.toml", POLICY + SERVICES)
    machine.server("ip", "addr", "add", f"{FAR}/32", "dev", "lo")
    arm(machine)
    echo = machine.start("python3", "-c", _ECHO)
    assert echo.stdout.readline() == "listening\n"

    assert machine.server("python3", "-c", _ASK) == "192.168.50.2\n"

    machine.must("sh", ROUTER, "clear")
    assert machine.server("python3", "-c", _ASK) == "10.99.0.2\n", "the control: from the tunnel's address, by the tunnel"
    echo.kill()
    echo.communicate()


def test_containers_bridges_are_reached_and_a_bridge_to_the_outside_is_underlay(machine):
    """The route over a bridge that the policy names wins over the tunnel, unless it has a port to the outside."""
    for bridge, port in (("docker0", "veth"), ("br-1", "ifb"), ("other", "veth")):
        peer = ("peer", "name", f"{bridge}-g") if port == "veth" else ()
        machine.must("ip", "link", "add", bridge, "type", "bridge")
        machine.must("ip", "link", "add", f"{bridge}-p", "type", port, *peer)
        machine.must("ip", "link", "set", f"{bridge}-p", "master", bridge)
        machine.must("ip", "link", "set", bridge, "up")
    machine.must("ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
    machine.must("ip", "addr", "add", "172.18.0.1/16", "dev", "br-1")
    machine.must("ip", "addr", "add", "172.19.0.1/16", "dev", "other")
    hosts = ("172.17.0.9", "172.18.0.9", "172.19.0.9")
    assert [way(machine, each) for each in hosts] == ["docker0", "br-1", "other"], "the control: stock rules"

    arm(machine)

    assert [way(machine, each) for each in hosts] == ["docker0", "wg0", "wg0"]


@pytest.mark.parametrize("cycles", [0, 2])
def test_disarming_leaves_the_rules_as_wg_quick_makes_them(machine, cycles):
    """Rules, routes and device groups are those of before, in the same order, also when wg-quick ran while the lock was armed."""
    before = machine.fingerprint(), machine.outside()
    arm(machine)
    assert " proto 245" in rules(machine)
    for _ in range(cycles):
        cycle(machine)

    machine.failshut("disarm", "--yes")

    left = machine.fingerprint(), machine.outside()
    # wg-quick itself brings the device's number and the sysctls of a new device along.
    assert left == before or (cycles and left[1] == before[1])
    assert way(machine, LAN_HOST) == "eth0"


def test_arming_again_changes_nothing_and_nothing_is_pending(machine):
    """The same rules in the same order; `plan` has nothing to do, also after wg-quick took the rules that look in its table."""
    arm(machine)
    once = rules(machine)
    arm(machine)
    assert rules(machine) == once

    cycle(machine)

    assert machine.failshut("plan", "--exit-code").returncode == 0
    assert status(machine)["state"] == "armed"


def test_another_policy_takes_the_place_of_the_first(machine):
    """After the second arming nothing of the first policy's routing is left, and wg-quick's rules stand behind ours."""
    arm(machine)
    cycle(machine)
    machine.write("/etc/failshut/failshut.toml", POLICY.replace("192.168.50.0/24", "192.168.77.0/24"))

    arm(machine)

    assert "192.168.50.0" not in rules(machine)
    ours = [" proto 245" in line for line in machine.must("ip", "rule").splitlines()[1:]]
    assert ours == sorted(ours, reverse=True)
    assert way(machine, INNER) == "wg0"


def is_waited_for(machine, how_many: int) -> bool:
    """Whether so many wait for their turn at the routing."""
    number = machine.must("stat", "--format=%i", TURNS).strip()
    lines = machine.read("/proc/locks").splitlines()
    return sum("-> FLOCK" in line and f":{number} " in line for line in lines) == how_many


def test_who_keeps_the_routing_amid_an_arming_does_not_bring_the_earlier_one_back(machine):
    """The guard comes to keep what was armed when it looked, and its turn is when another policy has been armed."""
    arm(machine)
    earlier = rules(machine)
    machine.write("/etc/failshut/failshut.toml", POLICY.replace('"192.168.50.0/24"', '"192.168.50.0/24", "192.168.77.0/24"'))
    holder = machine.start("flock", TURNS, "sh", "-c", "echo held; read -r _")
    assert holder.stdout.readline() == "held\n"
    arming = machine.start(*FAILSHUT, "arm")
    assert until(lambda: is_waited_for(machine, 1), within=60)
    keeper = machine.start("sh", "/etc/failshut/load", "routing")
    assert until(lambda: is_waited_for(machine, 2), within=60)
    assert rules(machine) == earlier

    holder.communicate("\n")

    for each in (arming, keeper):
        each.communicate()
        assert each.returncode == 0
    assert "192.168.77.0/24" in rules(machine)
    assert status(machine)["state"] == "armed"


def test_what_waits_to_be_confirmed_keeps_its_routing(machine):
    """Who looked at the current lock before another one began to wait puts that one's routing on."""
    arm(machine)
    machine.must(
        "sh",
        "-c",
        "mkdir -p /run/failshut && cp -r /etc/failshut/armed/current/ /run/waiting && ln -s /run/waiting /run/failshut/pending",
    )
    machine.must("sed", "-i", "s/192.168.50.0/192.168.77.0/", "/run/waiting/routing4")

    machine.must("sh", ROUTER, "apply", "/etc/failshut/armed/current")
    assert "192.168.77.0/24" in rules(machine)

    machine.must("rm", "/run/failshut/pending")
    machine.must("sh", ROUTER, "apply", "/etc/failshut/armed/current")
    assert "192.168.77.0/24" not in rules(machine)


def test_a_removed_rule_is_drift_and_the_script_puts_it_back(machine):
    """Another program's work on the rules is seen, said, and undone without touching the lock; nothing left meanwhile."""
    arm(machine)
    before = rules(machine)
    machine.must("ip", "rule", "del", "to", "192.168.50.0/24", "lookup", "main")

    drifted = status(machine)
    assert (drifted["state"], drifted["drift"]) == ("drift", [])
    assert any("192.168.50.0/24" in line for line in drifted["routing"])

    machine.must("sh", "/etc/failshut/load", "routing")
    assert status(machine)["state"] == "armed"
    assert rules(machine) == before


def test_a_rule_of_another_program_in_front_is_drift(machine):
    """A rule that comes before ours decides first, whatever it says."""
    arm(machine)
    machine.must("sh", ROUTER, "clear")
    machine.must("ip", "rule", "add", "pref", "0", "to", "10.0.0.0/8", "lookup", "main")
    arm(machine)

    assert any("before ours" in line for line in status(machine)["routing"])


def test_routing_that_is_killed_half_way_is_finished_or_undone(machine):
    """After `kill -9` of the script at any rule, arming makes it whole and disarming leaves nothing."""
    before = machine.fingerprint()
    arm(machine)
    whole = rules(machine)
    lines = machine.read("/etc/failshut/armed/current/routing4").splitlines(keepends=True)

    for end in (1, 4, len(lines) - 1):
        machine.must("sh", ROUTER, "clear")
        machine.must("ip", "-batch", "-", stdin="".join(lines[:end]))
        arm(machine)
        assert rules(machine) == whole
    machine.must("sh", ROUTER, "clear")
    machine.must("ip", "-batch", "-", stdin="".join(lines[:4]))
    machine.failshut("disarm", "--yes")

    assert machine.fingerprint() == before


def test_without_ip_the_loader_still_locks(sandbox):
    """Routing is never what keeps packets in: its absence is said and costs nothing of the lock."""
    sandbox.adopt_example()
    assert sandbox.failshut("arm").returncode == 0
    sandbox.run("nft", "flush", "ruleset")
    for directory in ("/usr/sbin", "/usr/bin"):
        sandbox.run("sh", "-c", f"mkdir -p /run/hide{directory} && cp -a {directory}/. /run/hide{directory}")
    hide = "cd /run/hide && rm -f usr/sbin/ip usr/bin/ip && mount --bind usr/sbin /usr/sbin && mount --bind usr/bin /usr/bin"
    sandbox.run("sh", "-c", hide)

    done = sandbox.run("sh", "/etc/failshut/load")

    assert done.returncode == 0
    assert "ip is not installed" in done.stderr
    assert 'drop comment "shut"' in sandbox.run("nft", "list", "chain", "inet", "failshut", "postrouting").stdout


def test_a_device_that_comes_later_joins_the_group(machine):
    """What udev runs for a new device puts it among those whose routes win over no tunnel."""
    arm(machine)
    machine.must("ip", "link", "add", "usb0", "type", "veth", "peer", "name", "usb0-phone")
    machine.must("ip", "addr", "add", "10.99.0.77/24", "dev", "usb0")
    machine.must("ip", "link", "set", "usb0", "up")
    machine.must("ip", "link", "set", "usb0-phone", "up")
    assert way(machine, INNER) == "usb0", "the control: its route is drawn in before udev has run"

    machine.must("sh", "/etc/failshut/load", "link")

    assert way(machine, INNER) == "wg0"


def test_the_shell_finds_no_fault_in_the_routing_script(machine):
    """The script as it is installed passes shellcheck."""
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck: run `make setup`")
    arm(machine)

    done = subprocess.run(["shellcheck", "-"], input=machine.read(ROUTER), capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_every_kind_of_rule_is_read_back_as_it_was_compiled(sandbox):
    """The kernel takes each, and what it lists is the model again."""
    network = ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"), ip_network("192.0.2.9/32"), ip_network("2001:db8::9/128")
    endpoint = Endpoint(ip_address("203.0.113.10"), Port(51820))
    outer = Tunnel(InterfaceName("wg1"), (endpoint,), Mark(0xCA6C))
    policy = Policy(
        (Tunnel(InterfaceName("wg0"), (endpoint,), Mark(0xCA6D), through=outer.interface), outer),
        lan=Lan(network, multicast=tuple(MulticastName), routed=(ip_network("10.0.0.0/8"),)),
        inbound=(Inbound("any", Protocol.UDP, Port(53)), Inbound("some", Protocol.UDP, Port(54), network)),
        outbound=(Outbound("u", Protocol.UDP, network, Port(123)), Outbound("t", Protocol.TCP, network, Port(80), uid=1000)),
        forward=Forward(ForwardMode.TUNNEL, clients=(InterfaceName("eth1"),)),
        tailscale=Tailscale(),
    )
    wanted = lower_routing(policy, HostFacts())
    for version in IpVersion:
        done = sandbox.run("ip", f"-{version}", "-batch", "-", stdin=emit_rules(wanted.of(version)))
        assert done.returncode == 0, done.stderr

        listed = parse_rules(sandbox.run("ip", f"-{version}", "-j", "-N", "rule").stdout, version)

        assert tuple(each.rule for each in listed if each.ours) == wanted.of(version).rules
