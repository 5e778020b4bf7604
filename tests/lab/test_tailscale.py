"""Tailscale beside the tunnel: a stand-in that does on the network what tailscaled does, and those who would pass for it."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_network

import pytest

from failshut.drill.judgement.outcome import Status
from failshut.drill.pool import Worker, preflight
from failshut.drill.scenarios import SCENARIOS
from failshut.drill.workers.process import CannotDrillError
from failshut.model.policy import Tailscale
from failshut.model.units import Port
from lab.drilling import Drilling, rehearsal_of_the_example

SELF_HOSTED = Tailscale(Port(41642), (Port(8443),), (ip_network("192.0.2.5/32"), ip_network("2001:db8:5::/64")))


@pytest.fixture(scope="module", params=[Tailscale(), SELF_HOSTED], ids=["as it comes", "servers of one's own"])
def beside(request):
    """A worker that rehearses the example with Tailscale beside it."""
    try:
        preflight(real_root=os.geteuid() == 0)
        started = Worker(rehearsal_of_the_example(lambda policy: replace(policy, tailscale=request.param)))
    except CannotDrillError as reason:
        pytest.skip(str(reason))
    yield Drilling(started)
    started.close()


pytestmark = pytest.mark.lab


def test_tailscale_works_beside_the_tunnel(beside):
    """Peers, control servers, the tailnet and its names, in both directions and families, while the tunnel carries the rest."""
    beside.held("works-tailscale")


def test_tailscale_works_when_it_was_started_first(beside):
    """With the routing that arming adds; without it, wg-quick's rules would take all of it into the tunnel."""
    beside.held("works-tailscale-first")


@pytest.mark.scenario(*SCENARIOS["tailscale-near-misses"].covers)
def test_the_mark_the_port_or_root_alone_open_nothing(beside):
    """Next port, next mark, names, plain HTTP, ping, the tunnel's address."""
    beside.held("tailscale-near-misses")


@pytest.mark.scenario(*SCENARIOS["tailscale-forged"].covers)
def test_a_forged_mark_without_root_opens_nothing(beside):
    """CAP_NET_RAW lets any user set the mark."""
    beside.held("tailscale-forged")


@pytest.mark.scenario(*SCENARIOS["tailscale-lost"].covers)
def test_what_was_for_the_tailnet_does_not_leave_in_the_clear(beside):
    """tailscaled is gone, and with it its routes."""
    beside.held("tailscale-lost")


@pytest.mark.scenario(*SCENARIOS["tailscale-first"].covers)
def test_started_before_the_tunnel_tailscale_leaks_nothing(beside):
    """wg-quick's rules then stand before tailscaled's: its packets, and the tailnet's, go into the tunnel."""
    beside.held("tailscale-first")


def test_root_with_the_mark_is_a_known_limit_and_no_silence(beside):
    """docs/known-limits.md says it; the drill shows it with packets."""
    outcome = beside.outcome("tailscale-forged-by-root")

    assert outcome.status is Status.LIMIT
    assert outcome.lock.leaked
