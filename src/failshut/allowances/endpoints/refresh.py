"""Keeps the tunnels' endpoints: nothing for a tunnel that works; else fail over, then ask, and pin what a handshake has proven.

Whatever ends it, and at whatever line, the lock holds: what it opens are elements that the kernel takes out again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
from failshut.arming.arm import arm, digest_of, one_at_a_time
from failshut.arming.errors import NOT_BY_IPTABLES, USE_NFTABLES, ArmingError
from failshut.arming.generations import CURRENT
from failshut.arming.kernel import kernel_listing
from failshut.arming.plan import make_plan
from failshut.arming.state import ARMED_DIRECTORY, Record, load_pending, load_record
from failshut.host.filter.elements import NotTakenError, candidate
from failshut.host.network.probe import probe
from failshut.host.sources import load_policy
from failshut.host.tunnels.wireguard import RunningPeer, RunningTunnel, running_tunnels, set_endpoint
from failshut.model.backend import BackendName
from failshut.model.host import HostFacts
from failshut.model.pin import Pin
from failshut.model.policy import Policy, Tunnel
from failshut.model.timed import ON_PROBATION
from failshut.model.units import Endpoint

Report = Callable[[str], None]
LOCK = Path("/run/failshut-refresh.lock")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A tunnel after its refresh: the endpoints it has now, and what is to be said about the way there."""

    tunnel: str
    state: State
    endpoints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class NotArmedError(Exception):
    """There is no armed lock whose endpoints could be refreshed."""


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


def armed_policy() -> Policy:
    """Return the policy that is armed. Raises `NotArmedError`, and `ArmingError` when the file says something else by now.

    What the user has written since and not armed is not for a timer to arm.
    """
    if load_pending():
        raise ArmingError("an arming waits to be confirmed", help="`failshut confirm` keeps it, then refresh")
    record = _record()
    policy = _loaded(record, {pin.host: pin for pin in record.pins})
    if digest_of(policy) != record.digest:
        raise ArmingError(f"{record.policy} is not what was armed", help="look with `failshut plan`, then `failshut arm`")
    return policy


def _record() -> Record:
    try:
        record = load_record(ARMED_DIRECTORY / CURRENT)
    except PermissionError as error:
        raise ArmingError("only root may read what is armed", help="run it with sudo", permission=True) from error
    except (OSError, ValueError) as error:
        raise ArmingError(f"the record of what is armed can't be read: {error}", help="`failshut arm` writes it anew") from error
    if record is not None and record.backend == BackendName.IPTABLES:
        raise ArmingError(NOT_BY_IPTABLES, help=USE_NFTABLES)
    if record is None or not kernel_listing().tables:
        raise NotArmedError
    return record


def _loaded(record: Record, pins: Mapping[str, Pin]) -> Policy:
    checked = load_policy(record.policy, pins=pins)
    if checked.policy is None:
        raise ArmingError(f"{record.policy} has errors: {checked.errors[0].message}", help="`failshut check` shows them all")
    return checked.policy


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
        armed = armed_policy()
        policy = _loaded(_record(), repinned(armed.pins, proven, said[proven.host]))
        before = kernel_listing(policy.backend)
        plan = make_plan(policy, probe(policy), before)
        # What was armed without a proof is not to be stuck with an address that is no more.
        arm(policy, plan, before, report=lambda _: None, undecided_is_fine=_record().audit != "proved")
    work.policy = policy


def _listen(work: _Work, tunnel: Tunnel) -> None:
    """Keep what the tunnel's own resolver says now: tried, and not believed, once the tunnel does not work any more."""
    current = next(each for each in work.policy.tunnels if each.interface == tunnel.interface)
    hosts = names_of(current, work.policy)
    if hosts:
        heard.keep(through_tunnel(hosts))
