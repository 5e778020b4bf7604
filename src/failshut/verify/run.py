"""The verification: watch the wire while the tunnel works, is taken down, dies and comes back; judge every packet."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

from failshut.arming.armed.status import read_status
from failshut.host.network.links import received
from failshut.host.network.resolvers import RESOLV_CONF, name_servers
from failshut.host.run import NOT_FOUND, run
from failshut.host.tunnels.managers import network_manager_stopped
from failshut.model.lock import LockState
from failshut.model.policy import Policy
from failshut.model.units import Address
from failshut.verify.bench import Bench, Progress
from failshut.verify.ground import Ground
from failshut.verify.interrupt import Interrupt, StoppedError
from failshut.verify.outcome import Outcome, Report, Tried, Verdict
from failshut.verify.probes import FAR, Probe, Words, programs, questions, upload, ways_out
from failshut.verify.tunnel import Standing, Way, bring_back, carries, crash, is_there, take_down

# In seconds: a handshake is asked for again after five (WireGuard whitepaper, 6.1).
_CARRIES_WITHIN = 20.0
_SETTLING = 1.0
# systemd-resolved's own file names the servers that its stub asks.
_RESOLVED_CONF = Path("/run/systemd/resolve/resolv.conf")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is going to be done. `window` is in seconds; `uploads` are hosts that take a TCP upload through the tunnel.

    `frames` says whether raw frames are sent: iptables sees none of them, so that one would only show what is known.
    """

    policy: Policy
    ground: Ground
    standing: tuple[Standing, ...]
    window: float
    uploads: tuple[tuple[Address, int], ...] = ()
    frames: bool = True

    @property
    def inside(self) -> tuple[Address, ...]:
        """The tunnels' own addresses."""
        return tuple(each.ip for tunnel in self.policy.tunnels for each in tunnel.addresses)

    @property
    def down(self) -> tuple[str, ...]:
        """The policy's tunnels that were found down."""
        up = {each.name for each in self.standing}
        return tuple(str(each.interface) for each in self.policy.tunnels if each.interface not in up)


@dataclass(slots=True)
class _Run:
    """One verification at work. `broken` are the tunnels that must be brought back, with whether they crashed."""

    plan: Plan
    bench: Bench
    words: Words
    say: Callable[[str], None]
    broken: dict[Standing, bool] = field(default_factory=dict)
    unrestored: list[str] = field(default_factory=list)


def verify(plan: Plan, interrupt: Interrupt, progress: Progress, say: Callable[[str], None]) -> Report:
    """Run the tests and bring the tunnels back, whatever happens. Raises PermissionError where frames can't be captured."""
    words = Words()
    begun = [*programs(words, _targets(plan)), *(upload(*each, words) for each in plan.uploads)] if plan.standing else []
    interrupted = False
    with Bench(plan.policy, plan.ground, begun, interrupt, progress) as bench:
        this = _Run(plan, bench, words, say)
        try:
            _tests(this)
            if this.broken:
                # Also judged: what leaves while the tunnel comes back.
                _comes_back(this)
        except StoppedError:
            interrupted = True
        finally:
            _restore(this)
        if interrupted:
            bench.conclude("stopped", "what left until it was interrupted and the tunnel was back")
        drift = _final(this, progress)
    return Report(tuple(bench.outcomes), drift, tuple(this.unrestored), interrupted)


def _tests(this: _Run) -> None:
    """Run test after test; the first that is not ok is the last: with a hole in the lock, every further second leaks."""
    refusals = [f"{each.name}: {each.why_not}" for each in this.plan.standing if each.why_not]
    if refusals:
        with this.bench.test("guide-1", "the tunnel is taken down while programs send") as test:
            test.wrong += [*refusals, "take it down yourself and run this again"]
        return
    for step in _all() if this.plan.standing else _as_found():
        step(this)
        if this.bench.outcomes[-1].verdict is not Verdict.OK:
            return


def _all() -> tuple[Callable[[_Run], None], ...]:
    return (_works, _taken_down, _names_asked, _comes_back, _crashes, _comes_back)


def _as_found() -> tuple[Callable[[_Run], None], ...]:
    return (_stays_down, _names_asked)


def _works(this: _Run) -> None:
    """See the tunnel carry, and the capture see its packets: the control of everything after it."""
    with this.bench.test("control", "the tunnel works, and the capture sees its packets") as test:
        test.wrong += _carrying(this)
        if not this.bench.wait(lambda: this.bench.capture.transport_seen, within=_CARRIES_WITHIN):
            test.wrong.append("the capture saw no packet of the tunnel's, though programs sent through it")
        # Long enough for a connection through the tunnel to be made, and for callers of a service to be noticed.
        this.bench.interrupt.pause(min(this.plan.window, _SETTLING))


def _carrying(this: _Run) -> list[str]:
    """Wait for an answer of each tunnel's server; return what is wrong."""
    before = {each: received(each.name) for each in this.plan.standing}
    this.bench.wait(lambda: all(carries(*each) for each in before.items()), within=_CARRIES_WITHIN)
    silent = [each for each, bytes_in in before.items() if not carries(each, bytes_in)]
    return [
        f"{each.name} does not carry: {'no handshake with its server' if each.wireguard else 'nothing comes back through it'}"
        for each in silent
    ]


def _taken_down(this: _Run) -> None:
    probes = ways_out(this.plan.ground, this.plan.inside, this.words, frames=this.plan.frames)
    with this.bench.test("guide-1", "the tunnel is taken down while programs send", probes) as test:
        for tunnel in this.plan.standing:
            this.broken[tunnel] = False
            result = take_down(tunnel)
            test.wrong += [] if result.ok else [f"{tunnel.name} could not be taken down: {result.complaint}"]
        test.wrong += _watch_it_down(this)


def _crashes(this: _Run) -> None:
    probes = ways_out(this.plan.ground, this.plan.inside, this.words, frames=this.plan.frames)
    with this.bench.test("guide-2", "the tunnel dies without a word", probes) as test:
        # NetworkManager would make the device anew within milliseconds.
        makes_anew = any(each.way is Way.NETWORK_MANAGER for each in this.plan.standing)
        with network_manager_stopped() if makes_anew else contextlib.nullcontext():
            for tunnel in this.plan.standing:
                this.broken[tunnel] = True
                complaint = crash(tunnel)
                test.wrong += [f"{tunnel.name} could not be made to crash: {complaint}"] if complaint else []
            test.wrong += _watch_it_down(this)


def _stays_down(this: _Run) -> None:
    probes = ways_out(this.plan.ground, this.plan.inside, this.words, frames=this.plan.frames)
    with this.bench.test("down", "the tunnel is down, as it was found", probes) as test:
        if not any(each.carrying and each.ethernet for each in this.plan.ground.devices):
            # With no tunnel's packets to see either, nothing would show that the capture sees.
            test.wrong.append("no Ethernet device has a link: nothing could leave, and nothing shows that the capture would see it")
        test.wrong += _watch_it_down(this)


def _watch_it_down(this: _Run) -> list[str]:
    """Let the window go by with every tunnel down; return what is wrong, such as a tunnel that came back by itself."""
    names = [str(each.interface) for each in this.plan.policy.tunnels]
    this.bench.wait(lambda: not any(map(is_there, names)), within=_CARRIES_WITHIN)
    this.bench.interrupt.pause(this.plan.window)
    return [f"{name} was not down to the end" for name in names if is_there(name)]


def _names_asked(this: _Run) -> None:
    """Ask for names: by the system's own resolver, and raw, at every server that a program could think of."""
    probes = questions(this.plan.ground, resolvers(), this.words)
    with this.bench.test("guide-3", "names are looked up with the tunnel down", probes) as test, _asking(this, test.more):
        test.wrong += _watch_it_down(this)


@contextlib.contextmanager
def _asking(this: _Run, tried: list[Tried]) -> Iterator[None]:
    """Look a name up by the system's resolver meanwhile, as a browser would."""
    name, label = this.words.label()
    # No socket of ours: only its words are looked for in what leaves.
    this.bench.sending.everything.append(Probe.by_others("the system's resolver", label))
    answers = []
    window = this.plan.window

    def ask() -> None:
        answers.append(run(["getent", "ahosts", name], timeout=window, own_group=True))

    thread = threading.Thread(target=ask, name="resolver", daemon=True)
    thread.start()
    # Who stops meanwhile wants the tunnel back, not the answer: then nobody waits for it.
    yield
    thread.join()
    missing = not answers or answers[0].code == NOT_FOUND
    tried.append(Tried("the system's resolver", 0 if missing else 1, 0, "getent is not installed" if missing else ""))


def _comes_back(this: _Run) -> None:
    with this.bench.test("back", "the tunnel comes back") as test:
        _restore(this)
        test.wrong += [f"it did not: {each}" for each in this.unrestored] or _carrying(this)


def _restore(this: _Run) -> None:
    """Bring back what was taken apart. Asks for no signal, and what fails for one tunnel keeps no other from coming back."""
    with contextlib.ExitStack() as stack:
        for tunnel, crashed in this.broken.items():
            stack.callback(_restore_one, this, tunnel, crashed=crashed)
        this.broken = {}


def _restore_one(this: _Run, tunnel: Standing, *, crashed: bool) -> None:
    this.say(f"bringing {tunnel.name} back ({tunnel.by})")
    # A second time where the first fails: a hook may have lost a race.
    complaint = bring_back(tunnel, crashed=crashed) and bring_back(tunnel, crashed=crashed)
    this.unrestored += [f"{tunnel.name}: {complaint}"] if complaint else []


def _final(this: _Run, progress: Progress) -> bool:
    """Check that the lock is still armed; return whether it has drifted. A broken lock is a test that failed, too."""
    began = time.monotonic()
    status = read_status()
    wrong = list(this.unrestored)
    if status.state not in (LockState.ARMED, LockState.DRIFT):
        wrong.append(f"the lock is {status.state}")
    names = [each.name for each in this.plan.standing]
    wrong += [f"{name} is not up" for name in names if not is_there(name)]
    drift = status.state is LockState.DRIFT
    title = "the tunnel is up again, and the lock is armed" if names else "the lock is armed"
    verdict = Verdict.VOID if wrong else Verdict.OK
    reason = "; ".join(wrong) or ("with drift: `failshut status` shows it" if drift else "")
    outcome = Outcome("final", title, verdict, reason, time.monotonic() - began)
    this.bench.outcomes.append(outcome)
    progress(outcome)
    return drift


def resolvers() -> list[Address]:
    """Return the name servers that the system's files name, each once."""
    found = []
    for each in (server for path in (RESOLV_CONF, _RESOLVED_CONF) for server in name_servers(path)):
        with contextlib.suppress(ValueError):
            found.append(ip_address(each))
    return list(dict.fromkeys(found))


def _targets(plan: Plan) -> dict[int, Address]:
    """Return an address of each family that goes into the tunnel: a documentation address, else one that the tunnel takes."""
    allowed = [
        ip_network(word, strict=False)
        for tunnel in plan.standing
        for line in run(["wg", "show", tunnel.name, "allowed-ips"]).out.splitlines()
        for word in line.split()[1:]
        if word != "(none)"
    ]
    # Of a program's tunnel only the routes say what it takes.
    allowed += [
        ip_network(far)
        for tunnel in plan.standing
        for far in FAR.values()
        if not tunnel.wireguard and f" dev {tunnel.name} " in run(["ip", "route", "get", str(far)]).out
    ]
    targets: dict[int, Address] = {}
    for version, far in FAR.items():
        own = [each for each in allowed if each.version == version]
        if any(far in each for each in own):
            targets[version] = far
        elif own:
            targets[version] = own[0][min(1, own[0].num_addresses - 1)]
    return targets
