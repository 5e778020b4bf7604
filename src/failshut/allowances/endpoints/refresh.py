"""Keeps the tunnels' endpoints: nothing for a tunnel that works; else fail over, then ask, and pin what a handshake has proven.

Whatever ends it, and at whatever line, the lock holds: what it opens are elements that the kernel takes out again by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from failshut.allowances.endpoints import heard
from failshut.allowances.endpoints.ask import Answers, UnansweredError, over_tls, through_tunnel
from failshut.allowances.endpoints.decide import (
    Candidate,
    candidates,
    endpoint_of,
    fallbacks,
    is_fresh,
    names_of,
    repinned,
    unfit,
)
from failshut.allowances.endpoints.handshake import answers
from failshut.allowances.endpoints.raising import raise_tunnel
from failshut.allowances.endpoints.state import State
from failshut.arming.again import arm_again, armed_policy, with_pins
from failshut.arming.errors import ArmingError
from failshut.arming.exclusive import one_at_a_time
from failshut.arming.survey import surveyed_as_armed
from failshut.host.filter.elements import NotTakenError, candidate
from failshut.host.network.probe import probe
from failshut.host.tunnels.wireguard import running_tunnels, set_endpoint
from failshut.model.host import HostFacts
from failshut.model.policy import Policy, Tunnel
from failshut.model.progress import Report
from failshut.model.running import RunningPeer, RunningTunnel
from failshut.model.timed import ON_PROBATION
from failshut.model.units import Endpoint

LOCK = Path("/run/failshut-refresh.lock")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tunnel after its refresh: the endpoints it has now, and what is to be said about the way there."""

    tunnel: str
    state: State
    endpoints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Work:
    """What a run knows: the armed policy, the machine, and what was said while it went on."""

    policy: Policy
    facts: HostFacts
    report: Report
    notes: list[str] = field(default_factory=list)

    def note(self, line: str) -> None:
        self.notes.append(line)
        self.report(line)


def refresh(only: Iterable[str] = (), *, report: Report) -> tuple[Outcome, ...]:
    """Refresh the tunnels named, or all. Raises `NotArmedError`, and `ArmingError` for what it can't do at all."""
    with one_at_a_time(LOCK, doing="refreshing the endpoints"):
        policy = armed_policy()
        wanted = _chosen(policy, only)
        done = []
        for each in wanted:
            work = _Work(policy, probe(policy), report)
            done.append(_tunnel(work, each))
            policy = work.policy
        return tuple(done)


def bring_up(only: Iterable[str] = (), *, report: Report) -> None:
    """Bring up those of the tunnels that are down. Raises as `refresh` does."""
    with one_at_a_time(LOCK, doing="refreshing the endpoints"):
        policy = armed_policy()
        for each in _chosen(policy, only):
            if raise_tunnel(policy, each):
                report(f"{each.interface} is up")


def _chosen(policy: Policy, only: Iterable[str]) -> list[Tunnel]:
    known = {str(each.interface) for each in policy.tunnels}
    if strange := set(only) - known:
        raise ArmingError(f"the armed lock knows no tunnel {min(strange)}", help=f"it has {', '.join(sorted(known))}")
    # The outer tunnel of a double hop first: without it the inner one has no way.
    return sorted((each for each in policy.tunnels if not only or each.interface in only), key=_depth)


def _depth(tunnel: Tunnel) -> bool:
    return tunnel.through is not None


def _tunnel(work: _Work, tunnel: Tunnel) -> Outcome:
    name = str(tunnel.interface)
    running = running_tunnels().get(name)
    if running is None:
        live = work.facts.tunnels.get(tunnel.interface)
        return Outcome(name, State.UNKNOWN if live and live.running else State.DOWN)
    states = [_peer(work, tunnel, running, each) for each in _clients(running)]
    if all(each.is_well for each in states):
        _listen(work, tunnel)
    state = next((each for each in (State.STALE, State.PINNED, State.FAILED_OVER) if each in states), State.WORKS)
    after = running_tunnels().get(name)
    return Outcome(name, state, tuple(each.endpoint for each in after.peers) if after else (), tuple(work.notes))


def _clients(running: RunningTunnel) -> tuple[RunningPeer, ...]:
    """Return the peers that we call: those with an endpoint; all where none has one."""
    return tuple(each for each in running.peers if each.endpoint) or running.peers


def _peer(work: _Work, tunnel: Tunnel, running: RunningTunnel, peer: RunningPeer) -> State:
    before = endpoint_of(peer.endpoint)
    if is_fresh(peer) and before in tunnel.endpoints:
        return State.WORKS
    taken = [found for each in running.peers if each.key != peer.key and (found := endpoint_of(each.endpoint))]
    tried = fallbacks(tunnel, before, taken)
    for each in tried:
        if answers(tunnel.interface, peer, each):
            if each == before:
                return State.WORKS
            work.note(f"{tunnel.interface} goes on by {each}: {peer.endpoint} does not answer")
            return State.FAILED_OVER
    try:
        if _new_address(work, tunnel, peer):
            return State.PINNED
    except BaseException:
        _put_back(tunnel, peer, tried)
        raise
    _put_back(tunnel, peer, tried)
    work.note(f"{tunnel.interface}: no handshake with any endpoint")
    return State.STALE


def _put_back(tunnel: Tunnel, peer: RunningPeer, pinned: tuple[Endpoint, ...]) -> None:
    """Leave the peer where the lock lets it go: the server may come back there."""
    running = endpoint_of(peer.endpoint)
    home = running if running in pinned else next(iter(pinned), None)
    if home:
        set_endpoint(tunnel.interface, peer.key, str(home))


def _new_address(work: _Work, tunnel: Tunnel, peer: RunningPeer) -> bool:
    """Try what was heard while the tunnel worked; then what a resolver says over TLS."""
    hosts = names_of(tunnel, work.policy)
    if not hosts:
        return False
    told = heard.load()
    if _proven(work, tunnel, peer, told):
        return True
    if not work.policy.resolvers:
        work.note(f"{', '.join(hosts)} can't be asked for without the tunnel: the policy names no [endpoint] resolvers")
        return False
    try:
        said = over_tls(hosts, work.policy.resolvers, work.facts.probe)
    except UnansweredError as error:
        work.note(f"no resolver answered: {error}")
        return False
    news = {host: tuple(each for each in found if each not in told.get(host, ())) for host, found in said.items()}
    return _proven(work, tunnel, peer, news)


def _proven(work: _Work, tunnel: Tunnel, peer: RunningPeer, said: Answers) -> bool:
    for host, address in ((host, address) for host, found in said.items() for address in found):
        if why := unfit(address, host, work.policy):
            work.note(f"{host} is said to be at {address}, which is not tried: {why}")
    for each in candidates(tunnel, said, work.policy):
        try:
            with candidate(each.endpoint, seconds=ON_PROBATION):
                if answers(tunnel.interface, peer, each.endpoint):
                    _pin(work, tunnel, each, said)
                    return True
        except NotTakenError as error:
            raise ArmingError(f"the lock takes no new address on probation: {error}", help="run it with sudo") from error
        work.note(f"{each.host} is said to be at {each.endpoint.address}: no handshake there")
    return False


def _pin(work: _Work, tunnel: Tunnel, proven: Candidate, said: Answers) -> None:
    """Arm the lock with the proven address, in place; the element lets the tunnel on until that is done."""
    work.note(f"{tunnel.interface}: {proven.host} is at {proven.endpoint.address} now, proven by a handshake")
    with one_at_a_time():
        # Once more: the user may have armed something else meanwhile.
        policy = with_pins(repinned(armed_policy().pins, proven, said[proven.host]))
        arm_again(policy, surveyed_as_armed(policy), report=lambda _: None)
    work.policy = policy


def _listen(work: _Work, tunnel: Tunnel) -> None:
    """Keep what the tunnel's own resolver says now: tried, and not believed, once the tunnel does not work any more."""
    current = next(each for each in work.policy.tunnels if each.interface == tunnel.interface)
    hosts = names_of(current, work.policy)
    if hosts:
        heard.keep(through_tunnel(hosts))
