"""The drill's parent side: starts workers in namespaces of their own and shares the jobs out among them."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from failshut.drill.choices import DEFAULT_WORKERS, WINDOW_SECONDS, Backend
from failshut.drill.judgement.outcome import Outcome, RunResult, conclude
from failshut.drill.network.openvpn import PROGRAMS
from failshut.drill.network.plan import PlanError, make_plan
from failshut.drill.network.rules import RuleSource
from failshut.drill.rules.compiled import compiled
from failshut.drill.run import Rehearsal
from failshut.drill.scenario import Kind, Scenario
from failshut.drill.timeline import timeline_from
from failshut.drill.workers.process import CannotDrillError, WorkerProcess
from failshut.host.run import find
from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind
from failshut.model.policy import Policy, Tunnel, TunnelKind


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be done."""

    scenario: Scenario
    source: RuleSource


class Worker(WorkerProcess):
    """One worker process of a rehearsal."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__(rehearsal, real_root=rehearsal.real_root)

    def run(self, job: Job) -> RunResult:
        """Run one job. What could not be judged is run once more: on a busy machine a tunnel may have carried nothing in time."""
        first = self._answer(job)
        if first is None:
            return self._dead(job)
        if not first.reason or first.skipped or first.leaked:
            return first
        again = self._answer(job) or self._dead(job)
        return replace(again, notes=(*again.notes, f"run twice, for the first run could not be judged: {first.reason}"))

    def _answer(self, job: Job) -> RunResult | None:
        answer = self.ask(json.dumps({"scenario": job.scenario.name, "source": job.source}))
        return result_from(answer) if answer else None

    def _dead(self, job: Job) -> RunResult:
        return RunResult(job.scenario.name, job.source, reason=f"the worker died: {self.complaint()}")


def result_from(answer: dict[str, object]) -> RunResult:
    """Return the run's result from its JSON object."""
    fields = {**answer, "source": RuleSource(str(answer["source"]))}
    for name in ("leaks", "notes"):
        fields[name] = tuple(fields[name])  # type: ignore[arg-type]
    fields["timeline"] = timeline_from(fields["timeline"])  # type: ignore[arg-type]
    return RunResult(**fields)  # type: ignore[arg-type]


def rehearse(policy: Policy, facts: HostFacts, window: float = WINDOW_SECONDS, backend: Backend | None = None) -> Rehearsal:
    """Compile the lock as arming would, and return what the workers need. Raises PlanError where no lab can be made."""
    kind = WireGuardKind.KERNEL if Path("/sys/module/wireguard").exists() else WireGuardKind.USERSPACE
    # The lock refuses every other owner: where the machine does not say who sends, it is who will send in the lab.
    unknown = {each.interface: LiveTunnel(kind) for each in policy.tunnels if _kind(facts, each) is WireGuardKind.UNKNOWN}
    facts = replace(facts, tunnels={**facts.tunnels, **unknown})
    _require_program(make_plan(policy, facts).tunnel)
    lock, other = (compiled(each, facts, backend) for each in (policy, _changed(policy)))
    return Rehearsal(policy, facts, lock, other, window, real_root=os.geteuid() == 0)


def _require_program(tunnel: Tunnel) -> None:
    """Raise PlanError where the program that carries the policy's tunnel is not there to carry the lab's."""
    missing = [each for each in PROGRAMS if find(each) is None]
    if tunnel.kind is TunnelKind.OPENVPN and missing:
        raise PlanError(f"{tunnel.interface} is OpenVPN's, and the lab's is the real one too; not installed: {', '.join(missing)}")


def _changed(policy: Policy) -> Policy:
    """Return the policy as it may be after an edit: its servers moved, its LAN no longer allowed."""
    tunnels = tuple(
        replace(tunnel, endpoints=tuple(replace(each, address=each.address + 1) for each in tunnel.endpoints))
        for tunnel in policy.tunnels
    )
    return replace(policy, tunnels=tunnels, lan=None)


def _kind(facts: HostFacts, tunnel: Tunnel) -> WireGuardKind:
    live = facts.tunnels.get(tunnel.interface)
    return live.kind if live else WireGuardKind.UNKNOWN


def preflight(*, real_root: bool) -> None:
    """Check what a lab needs before anything is started. Raises CannotDrillError with what is missing."""
    tun = Path("/dev/net/tun")
    if not tun.exists():
        raise CannotDrillError("/dev/net/tun is missing: the drill's tunnel needs it (modprobe tun)")
    if not os.access(tun, os.R_OK | os.W_OK):
        raise CannotDrillError("/dev/net/tun can't be opened by this user: run the drill as root, or `chmod 666 /dev/net/tun`")
    tools = ("setpriv", "unshare", "ip", "nft", "wg", "wg-quick")
    missing = [each for each in tools if find(each) is None]
    if missing:
        raise CannotDrillError(f"not installed: {', '.join(missing)} (Debian: util-linux iproute2 nftables wireguard-tools)")
    limit = Path("/proc/sys/user/max_user_namespaces")
    if not real_root and limit.exists() and limit.read_text().strip() == "0":
        raise CannotDrillError("user namespaces are switched off (user.max_user_namespaces=0): run the drill as root")


def jobs_of(scenarios: Iterable[Scenario], *, control: bool, beside: bool = False) -> list[Job]:
    """Return the runs a drill consists of: each scenario's control, if it has one, the lock, and each attack under other rules."""
    jobs = []
    for scenario in sorted(scenarios, key=lambda each: not each.slow):
        jobs += [Job(scenario, source) for source in sources_of(scenario, control=control, beside=beside)]
    return jobs


def sources_of(scenario: Scenario, *, control: bool, beside: bool) -> list[RuleSource]:
    """Return the rules that a scenario is tried under."""
    sources = [RuleSource.LOCK]
    if control and scenario.control is not None:
        sources.append(scenario.control)
    if beside and scenario.kind is Kind.ATTACK:
        sources.append(RuleSource.BESIDE)
    return sources


def drill(
    rehearsal: Rehearsal,
    scenarios: Sequence[Scenario],
    report: Callable[[Outcome], None],
    *,
    control: bool = True,
    workers: int = DEFAULT_WORKERS,
) -> list[Outcome]:
    """Run the scenarios; `report` is told each outcome as it comes, always from one thread at a time."""
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    every = jobs_of(scenarios, control=control, beside=bool(rehearsal.beside))
    for job in every:
        jobs.put(job)
    collector = _Collector(scenarios, report, control=control, beside=bool(rehearsal.beside))
    crew = [Worker(rehearsal) for _ in range(min(workers, len(every)))]
    try:
        threads = [threading.Thread(target=_serve, args=(each, jobs, collector), daemon=True) for each in crew]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for each in crew:
            each.close()
    return collector.outcomes()


def _serve(worker: Worker, jobs: queue.SimpleQueue[Job], collector: _Collector) -> None:
    while True:
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            return
        collector.add(job, worker.run(job))


class _Collector:
    """Joins a scenario's runs into its outcome."""

    def __init__(self, scenarios: Sequence[Scenario], report: Callable[[Outcome], None], *, control: bool, beside: bool) -> None:
        self._scenarios = scenarios
        self._report = report
        self._control = control
        self._beside = beside
        self._runs: dict[tuple[str, RuleSource], RunResult] = {}
        self._done: dict[str, Outcome] = {}
        self._lock = threading.Lock()

    def add(self, job: Job, result: RunResult) -> None:
        """Take in one run."""
        scenario = job.scenario
        with self._lock:
            self._runs[scenario.name, job.source] = result
            wanted = sources_of(scenario, control=self._control, beside=self._beside)
            runs = {source: self._runs.get((scenario.name, source)) for source in wanted}
            lock = runs[RuleSource.LOCK]
            if lock is not None and None not in runs.values():
                control = runs.get(scenario.control) if scenario.control else None
                self._done[scenario.name] = conclude(scenario, lock, control, runs.get(RuleSource.BESIDE))
                self._report(self._done[scenario.name])

    def outcomes(self) -> list[Outcome]:
        """Return every outcome, in the order the scenarios were given."""
        return [self._done[each.name] for each in self._scenarios if each.name in self._done]
