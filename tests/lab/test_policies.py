"""Other policies than the example's: the lab follows the policy, and the lock holds there too."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from amount import THOROUGHLY
from failshut.drill.judgement.outcome import Status
from failshut.drill.pool import Worker, preflight, rehearse
from failshut.drill.workers.process import CannotDrillError
from failshut.model.host import HostFacts
from failshut.model.policy import Inbound, Lan, MulticastName, Outbound, Policy, Tunnel
from failshut.model.units import Endpoint, InterfaceName, Mark, Port, Protocol
from lab.drilling import Drilling

pytestmark = pytest.mark.lab
SERVER4, SERVER6 = Endpoint(ip_address("203.0.113.10"), Port(443)), Endpoint(ip_address("2001:db8::10"), Port(443))
ONLY4 = Tunnel(InterfaceName("vpn"), (SERVER4,), Mark(0x1234), (ip_interface("10.99.0.2/24"),))
ONLY6 = Tunnel(InterfaceName("tun9"), (SERVER6,), Mark(0x77), (ip_interface("fd99::2/64"),))
UPLINKS = tuple(InterfaceName(each) for each in ("enp0s31f6", "wlan0", "docker0", "virbr0", "wwan0"))

POLICIES: dict[str, Policy] = {
    "nothing allowed, IPv4 only": Policy(tunnels=(ONLY4,), dhcp=False, ndp=False),
    "nothing allowed, IPv6 only": Policy(tunnels=(ONLY6,), dhcp=False, ndp=True),
    "calls and nothing else": Policy(
        tunnels=(replace(ONLY4, endpoints=(SERVER4, SERVER6), addresses=(*ONLY4.addresses, *ONLY6.addresses)),),
        inbound=(Inbound("ssh", Protocol.TCP, Port(22)), Inbound("game", Protocol.UDP, Port(5555))),
    ),
    "much allowed": Policy(
        tunnels=(replace(ONLY4, endpoints=(SERVER4, SERVER6), addresses=(*ONLY4.addresses, *ONLY6.addresses)),),
        lan=Lan(
            (ip_network("10.0.0.0/11"), ip_network("192.168.50.3/32"), ip_network("fd00:1::/48")),
            interfaces=("enp*", "wlan0"),
            dns=True,
            multicast=tuple(MulticastName),
        ),
        inbound=(Inbound("ssh", Protocol.TCP, Port(2222)), Inbound("game", Protocol.UDP, Port(5555))),
        outbound=(
            Outbound("ntp", Protocol.UDP, (ip_network("192.0.2.123/32"),), Port(123)),
            Outbound("web", Protocol.TCP, (ip_network("192.0.2.124/32"), ip_network("2001:db8:99::1/128")), Port(443)),
        ),
    ),
}
SCENARIOS = (
    *("guide-1", "rule-lost", "dns-public", "bound-to-device", "only-the-lan", "names-on-the-link", "roaming", "container"),
    *("dns-lan", "ndp-scope", "joined-groups"),
    *("works-tunnel", "works-lan", "works-outbound", "works-inbound", "works-sessions"),
)


# The least and the most: thoroughly, those between.
CHOSEN = tuple(POLICIES) if THOROUGHLY else ("nothing allowed, IPv6 only", "much allowed")


@pytest.fixture(scope="module", params=CHOSEN)
def rehearsed(request):
    """A worker that rehearses another policy, on a machine with five underlay devices."""
    try:
        preflight(real_root=os.geteuid() == 0)
    except CannotDrillError as reason:
        pytest.skip(str(reason))
    started = Worker(rehearse(POLICIES[request.param], HostFacts(underlay=UPLINKS)))
    yield Drilling(started)
    started.close()


@pytest.mark.scenario(124)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_lock_of_another_policy_holds(rehearsed, name):
    """What the policy does not ask for is skipped, with its reason; everything else holds and works."""
    outcome = rehearsed.outcome(name)

    assert outcome.status is Status.HELD, outcome
