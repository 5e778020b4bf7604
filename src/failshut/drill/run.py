"""One run: build the lab, arm it, bring the tunnel up, attack, watch, judge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from failshut.drill.judgement.judge import Judgement, judge
from failshut.drill.judgement.outcome import RunResult
from failshut.drill.lab import Lab, NotHereError
from failshut.drill.network import rules, topology
from failshut.drill.network.capture import Capture
from failshut.drill.network.netns import SetUpError
from failshut.drill.network.openvpn import OpenVpnTunnel, start_openvpn
from failshut.drill.network.plan import Plan, make_plan
from failshut.drill.network.traffic import Traffic
from failshut.drill.network.tunnel import LabTunnel, start_tunnel
from failshut.drill.network.wait import pace, until
from failshut.drill.network.world import World
from failshut.drill.rules.source import InlineLock, Loadable, Lock, RuleSource
from failshut.drill.scenario import Need, Scenario
from failshut.drill.scenarios import AT_LENGTH, SCENARIOS
from failshut.drill.timeline import BIN_SECONDS, Timeline, binned
from failshut.drill.workers.process import Progress
from failshut.host.run import find, run
from failshut.model.host import HostFacts
from failshut.model.packet import Captured
from failshut.model.policy import Policy, TunnelKind

# Of a run's leaks, how many are shown; all are counted.
MOST_SHOWN = 12
# In seconds: how much longer than the window a control waits for its probes.
_SEEN_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What is rehearsed: the policy, the machine's devices, and the lock as the compiler wrote it.

    `other_lock` is the lock of a changed policy: another server, no LAN. `beside` are the other rules to try the attacks under.
    `lead` is in seconds: how long the tunnel carries undisturbed before an attack, for whoever wants to see it.
    """

    policy: Policy
    facts: HostFacts
    lock: Lock
    other_lock: Lock
    window: float
    real_root: bool
    beside: tuple[Loadable, ...] = ()
    lead: float = 0.0

    def carry_out(self, job: dict[str, str], progress: Progress) -> dict[str, object]:
        """Run the job's scenario under the job's rules."""
        return asdict(run_scenario((SCENARIOS | AT_LENGTH)[job["scenario"]], RuleSource(job["source"]), self, progress))

    def failed(self, job: dict[str, str], reason: str) -> dict[str, object]:
        """Return a run that is void."""
        return asdict(RunResult(job["scenario"], RuleSource(job["source"]), reason=reason))


def run_scenario(scenario: Scenario, source: RuleSource, rehearsal: Rehearsal, progress: Progress) -> RunResult:
    """Run one scenario under one set of rules, in namespaces that belong to the calling process alone."""
    began = time.monotonic()
    plan = make_plan(rehearsal.policy, rehearsal.facts)
    missing = [need for need in scenario.needs if not _HAVE[need](plan, rehearsal)]
    if missing:
        return RunResult(scenario.name, source, reason="needs " + ", ".join(missing), skipped=True)
    lab = _build(plan, source, rehearsal, progress)
    try:
        frames, failure = _carry_out(scenario, lab)
    except NotHereError as reason:
        return RunResult(scenario.name, source, reason=str(reason), skipped=True)
    return _result(scenario, lab, frames, failure, time.monotonic() - began)


def _build(plan: Plan, source: RuleSource, rehearsal: Rehearsal, progress: Progress) -> Lab:
    hosts = topology.build(plan)
    ends = [(each.router_end, str(each.device)) for each in plan.cables]
    lab = Lab(
        policy=rehearsal.policy,
        plan=plan,
        source=source,
        lock=rehearsal.lock,
        other_lock=rehearsal.other_lock,
        hosts=hosts,
        tunnel=_tunnel(plan, hosts, _inline(rehearsal.lock, source)),
        world=World(),
        traffic=Traffic(hosts.client),
        capture=Capture(hosts.router, ends),
        window=rehearsal.window,
        stamp=rehearsal.facts.stamp,
        real_root=rehearsal.real_root,
        beside=rehearsal.beside,
        lead=rehearsal.lead,
        progress=progress,
    )
    lab.serve()
    return lab


def _tunnel(plan: Plan, hosts: topology.Hosts, inline: tuple[str, ...]) -> LabTunnel | OpenVpnTunnel:
    return start_openvpn(plan, hosts) if plan.tunnel.kind is TunnelKind.OPENVPN else start_tunnel(plan, hosts, inline)


def _inline(lock: Lock, source: RuleSource) -> tuple[str, ...]:
    """Return the lines that the tunnel's config has of the lock."""
    return lock.lines if source is RuleSource.LOCK and isinstance(lock, InlineLock) else ()


def _carry_out(scenario: Scenario, lab: Lab) -> tuple[tuple[Captured, ...], str]:
    """Go through the scenario; return what was captured and, if the lab failed, why."""
    failure = ""
    if scenario.setup:
        scenario.setup(lab)
    if scenario.before:
        scenario.before(lab)
    rules.load(lab.client, lab.plan, lab.source, lab.lock, lab.beside)
    lab.capture.start(lambda: lab.sent)
    try:
        if scenario.tunnel and scenario.traffic:
            lab.bring_up()
            pace(lab.lead)
        elif scenario.tunnel:
            lab.tunnel.up()
        lab.attack_began = lab.capture.elapsed
        scenario.attack(lab)
        lab.attack_ended = lab.capture.elapsed
        pace(lab.window if scenario.window is None else scenario.window)
        if lab.source is scenario.control:
            # What it is there to see leak may take longer on a busy machine.
            until(lambda: lab.all_seen, within=_SEEN_WITHIN, step=0.1)
    except (SetUpError, OSError) as error:
        failure = str(error) or type(error).__name__
    finally:
        lab.traffic.stop()
        lab.world.stop()
        frames = lab.capture.stop()
    return frames, failure


def _result(scenario: Scenario, lab: Lab, frames: tuple[Captured, ...], failure: str, seconds: float) -> RunResult:
    verdict = judge(frames, lab.case())
    leaks = verdict.leaks
    if not lab.is_locked:
        # A control proves that the *attack* leaks; what an unlocked client says before it proves nothing.
        leaks = tuple(each for each in leaks if each.at >= lab.attack_began)
    if lab.is_locked and lab.capture.dropped and not failure:
        failure = f"the capture lost {lab.capture.dropped} frames"
    return RunResult(
        scenario=scenario.name,
        source=lab.source,
        reason=failure,
        sent=sum(lab.capture.sent.values()),
        frames=len(frames) + lab.capture.uncounted,
        allowed=verdict.allowed,
        leaked=len(leaks) + (lab.capture.uncounted if leaks else 0),
        leaks=tuple(str(each) for each in leaks[:MOST_SHOWN]),
        probes={name: sum(belongs(each.packet) for each in leaks) for name, belongs in lab.watched.items()},
        unavailable=lab.unavailable,
        works=lab.works,
        notes=tuple(lab.notes),
        seconds=round(seconds, 2),
        timeline=_timeline(lab, verdict, leaks),
    )


def _timeline(lab: Lab, verdict: Judgement, leaks: tuple[Captured, ...]) -> Timeline:
    seen = lab.capture
    count = int(seen.length / BIN_SECONDS) + 1
    others = (moment for name, moments in verdict.moments.items() if name != "transport" for moment in moments)
    return Timeline(
        began=round(lab.attack_began, 3),
        ended=round(lab.attack_ended, 3),
        sent=binned((), count, seen.sent),
        tunnel=binned(verdict.moments.get("transport", ()), count),
        allowed=binned(others, count),
        leaked=binned((each.at for each in leaks), count, seen.beyond if leaks else None),
    )


def _same_port(plan: Plan, _: Rehearsal) -> bool:
    v4, v6 = plan.endpoint(4), plan.endpoint(6)
    return v4 is not None and v6 is not None and v4.port == v6.port


def _device_kind(kind: str) -> bool:
    """Whether the kernel makes devices of a kind, tried in the worker's own empty namespace."""
    run(("ip", "link", "add", "try0", "type", "veth", "peer", "name", "try1"))
    made = run(("ip", "link", "add", "link", "try0", "name", "try2", "type", kind)).ok
    run(("ip", "link", "delete", "try0"))
    return made


def _flowtable(_: Plan, __: Rehearsal) -> bool:
    run(("ip", "link", "add", "try0", "type", "veth", "peer", "name", "try1"))
    text = "add table ip try\nadd flowtable ip try f { hook ingress priority 0; devices = { try0 }; }"
    text += "\nadd chain ip try c { type filter hook forward priority 0; }\nadd rule ip try c flow add @f\ndelete table ip try"
    made = run(("nft", "-f", "-"), stdin=text).ok
    run(("ip", "link", "delete", "try0"))
    return made


_HAVE: dict[Need, Callable[[Plan, Rehearsal], bool]] = {
    Need.REAL_ROOT: lambda _, rehearsal: rehearsal.real_root,
    Need.UDHCPC: lambda _, __: bool(find("udhcpc") or find("busybox")),
    Need.DNSMASQ: lambda _, __: find("dnsmasq") is not None,
    Need.IPTABLES: lambda _, __: find("iptables-restore") is not None,
    Need.TWO_FAMILIES: _same_port,
    Need.INBOUND: lambda _, rehearsal: bool(rehearsal.policy.inbound),
    Need.SECOND_DEVICE: lambda plan, _: len(plan.cables) > 1,
    Need.MACVLAN: lambda _, __: _device_kind("macvlan"),
    Need.FLOWTABLE: _flowtable,
    Need.TAILSCALE: lambda _, rehearsal: rehearsal.policy.tailscale is not None,
}
