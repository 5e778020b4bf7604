"""Machines behind the machine: containers, virtual machines, routed clients. They must not leave where it must not."""

from __future__ import annotations

import socket
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import ip_address

from failshut.drill.lab import Lab, NotHereError, echoes
from failshut.drill.network import traffic
from failshut.drill.network.netns import Namespace
from failshut.drill.network.wait import pace, until
from failshut.drill.scenario import Kind, Need, Scenario
from failshut.drill.scenarios.routing import lose_rules

# The first is a bridge that no policy names, the second one as Docker names its own.
BRIDGE, NAMED_BRIDGE = "drill-docker0", "br-drill"
GATEWAY4, GATEWAY6 = "172.30.0.1", "fd30::1"
CONTAINER4, CONTAINER6, SERVICE_PORT = "172.30.0.2", "fd30::2", 9101
# What Docker and libvirt install: masquerade and accept everything of theirs.
MASQUERADE = (
    "table inet other {{\n"
    " chain nat {{ type nat hook postrouting priority 100; oifname != {bridge} masquerade; }}\n"
    " chain f {{ type filter hook forward priority -1; accept; }}\n"
    "{more}}}\n"
)


def add_container(lab: Lab, more: str = "", *, bridge: str = BRIDGE) -> Namespace:
    """Give the client a container on a routed bridge, with masquerading, as Docker does."""
    container = Namespace("container")
    lab.client.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
    lab.client.batch(
        f"netns add {container.name}\nlink add {bridge} type bridge mcast_snooping 0\n"
        f"link add drill-veth0 type veth peer name eth0 netns {container.name}\n"
        f"link set drill-veth0 master {bridge}\n"
        f"link set drill-veth0 up\nlink set {bridge} up\n"
        f"address add {GATEWAY4}/24 dev {bridge}\naddress add {GATEWAY6}/64 dev {bridge}"
    )
    container.sysctl({"ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0})
    container.batch(
        f"link set lo up\nlink set eth0 up\naddress add {CONTAINER4}/24 dev eth0\naddress add {CONTAINER6}/64 dev eth0\n"
        f"route add default via {GATEWAY4}\nroute add default via {GATEWAY6}"
    )
    lab.client.do("nft", "-f", "-", stdin=MASQUERADE.format(bridge=bridge, more=more))
    return container


def _programs(lab: Lab, probe: str) -> list[traffic.Flow]:
    target = lab.target(probe)
    flows = []
    for version in (4, 6):
        address = target.of(version)
        flows += [traffic.udp_connected(address), traffic.tcp_upload(address), traffic.dns_lookups(address)]
    return flows


def _run_for_a_window(lab: Lab, container: Namespace, probe: str) -> None:
    programs = traffic.Traffic(container)
    programs.add(_programs(lab, probe))
    programs.start()
    pace(lab.window)
    programs.stop()
    lab.extra_sent += programs.sent


def container_without_tunnel(lab: Lab) -> None:
    """Let a container talk while the tunnel is down."""
    container = add_container(lab)
    lab.tunnel.down()
    _run_for_a_window(lab, container, "a container, tunnel down")


def container_on_a_named_bridge(lab: Lab) -> None:
    """Let a container talk while the tunnel is down, on a bridge that is part of the machine."""
    container = add_container(lab, bridge=NAMED_BRIDGE)
    lab.tunnel.down()
    _run_for_a_window(lab, container, "a container of a named bridge, tunnel down")


def container_reaches_the_machine(lab: Lab) -> None:
    """Have a container call a service of the machine's, and the machine one of the container's."""
    if not any(fnmatchcase(NAMED_BRIDGE, each) for each in lab.policy.forward.bridges):
        raise NotHereError(f"needs {NAMED_BRIDGE} among the policy's bridges")
    container = add_container(lab, bridge=NAMED_BRIDGE)
    for caller, called, addresses in (
        (container, lab.client, (GATEWAY4, GATEWAY6)),
        (lab.client, container, (CONTAINER4, CONTAINER6)),
    ):
        lab.world.tcp(called, SERVICE_PORT, f"bridge:{called.name}", echo=True)
        for address in addresses:
            lab.check(
                f"{caller.name} calls {called.name}, IPv{ip_address(address).version}",
                until(partial(_calls, caller, address), within=10),
            )


def _calls(caller: Namespace, address: str) -> bool:
    """Whether a connection carries bytes both ways. A bridge's IPv6 addresses take a moment after its first port."""
    try:
        with caller.inside():
            sock = socket.create_connection((address, SERVICE_PORT), 5)
    except OSError:
        return False
    with sock:
        return echoes(sock)


def container_keeps_talking(lab: Lab) -> None:
    """Let a container talk while the tunnel is up, then lose the rules under its flows."""
    container = add_container(lab)
    programs = traffic.Traffic(container)
    programs.add(_programs(lab, "a container's running flows"))
    programs.start()
    pace(0.4)
    lose_rules(lab)
    programs.add(_programs(lab, "a container's new flows"))
    pace(lab.window)
    programs.stop()
    lab.extra_sent += programs.sent


def routed_client(lab: Lab) -> None:
    """Let a machine of the LAN use the client as its gateway, with the tunnel down."""
    lab.client.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, f"ipv4/conf/{lab.device}/send_redirects": 0})
    lab.client.try_batch(f"route replace default via {lab.router(6)} dev {lab.device}")
    lab.tunnel.down()
    lab.hosts.lan.batch(
        f"route replace default via {lab.own_address(4)} dev eth0\nroute replace default via {lab.own_address(6)} dev eth0"
    )
    _run_for_a_window(lab, lab.hosts.lan, "a routed client of the LAN")


def flow_table(lab: Lab) -> None:
    """Let another tool offload forwarded flows past the hooks, then lose the rules."""
    more = (
        f" flowtable fast {{ hook ingress priority 0; devices = {{ {BRIDGE}, {lab.device} }}; }}\n"
        " chain offload { type filter hook forward priority -2; meta l4proto { tcp, udp } flow add @fast; }\n"
    )
    container = add_container(lab, more)
    lab.tunnel.down()
    _run_for_a_window(lab, container, "offloaded flows")


SCENARIOS = (
    Scenario("container", "a container, tunnel down", (95, 112), container_without_tunnel, traffic=False),
    Scenario(
        "container-named-bridge",
        "a container on a bridge of the policy, tunnel down",
        (95, 112),
        container_on_a_named_bridge,
        traffic=False,
    ),
    Scenario(
        "works-bridge",
        "a container and the machine reach each other",
        (95,),
        container_reaches_the_machine,
        kind=Kind.WORKS,
        traffic=False,
        window=0.2,
        control=None,
        because="what was seen to work needs no control",
    ),
    Scenario("container-flows", "a container's flows when the rule is lost", (113,), container_keeps_talking, traffic=False),
    Scenario("routed-client", "a LAN client routed by this machine", (112,), routed_client, traffic=False),
    Scenario("flow-table", "forwarded flows offloaded past the hooks", (104,), flow_table, traffic=False, needs=(Need.FLOWTABLE,)),
)
