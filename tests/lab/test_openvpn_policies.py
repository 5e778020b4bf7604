"""Policies whose tunnel is OpenVPN's: the drill carries them by the real one, over UDP and TCP, and the lock holds."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_interface

import pytest

from failshut.drill.judgement.outcome import Status
from failshut.drill.network.openvpn import PROGRAMS
from failshut.drill.pool import Worker, preflight, rehearse
from failshut.drill.workers.process import CannotDrillError
from failshut.model.host import HostFacts
from failshut.model.policy import Policy, Tunnel, TunnelKind
from failshut.model.units import Endpoint, InterfaceName, Mark, Port, Protocol
from lab.drilling import Drilling
from needed import needs

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=list(Protocol), ids=str)
def rehearsed(request):
    """A worker that rehearses an OpenVPN policy."""
    needs(*PROGRAMS)
    servers = tuple(Endpoint(ip_address(each), Port(1194), request.param) for each in ("203.0.113.10", "2001:db8::10"))
    addresses = (ip_interface("10.99.0.2/24"), ip_interface("fd99::2/64"))
    tunnel = Tunnel(InterfaceName("tun3"), servers, Mark(0x1267), addresses, kind=TunnelKind.OPENVPN)
    try:
        preflight(real_root=os.geteuid() == 0)
    except CannotDrillError as reason:
        pytest.skip(str(reason))
    started = Worker(rehearse(Policy(tunnels=(tunnel,)), HostFacts(underlay=(InterfaceName("eth0"),))))
    yield Drilling(started)
    started.close()


@pytest.mark.scenario(18)
@pytest.mark.parametrize("name", ["guide-2", "rule-lost", "rogue-payload", "works-tunnel"])
def test_the_lock_of_an_openvpn_policy_holds(rehearsed, name):
    """Killed, without its routes, beside a program that talks to its server, and at work."""
    outcome = rehearsed.outcome(name)
    if outcome.status is Status.VOID:
        # Connections in a tunnel over TCP may not come about on a busy machine. Then nothing was measured; what leaked counts.
        assert outcome.lock.leaks == ()
        outcome = rehearsed.outcome(name)

    assert (outcome.status, outcome.reason) == (Status.HELD, "")
