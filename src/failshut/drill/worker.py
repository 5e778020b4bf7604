"""The worker: PID 1 of its own pid, mount and network namespaces; runs jobs from standard input, answers on standard output.

Started by `pool` through `setpriv --pdeathsig KILL unshare …`. Each job runs in a child with namespaces of its own once more:
when that child, as PID 1, ends, the kernel ends every process and network device the run made. If the drill is killed, even by
SIGKILL at any moment, the kernel ends the worker and with it everything else; there is no clean-up code to be skipped.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from failshut.drill.network import netns
from failshut.drill.network.rules import RuleSource
from failshut.drill.run import Rehearsal, run_scenario
from failshut.drill.scenario import RunResult
from failshut.drill.scenarios import AT_LENGTH, SCENARIOS

# Longer than any run; a run that hangs is void, and the others go on.
DEADLINE_SECONDS = 240


def main() -> int:
    """Read the rehearsal, then one job a line; answer each with one line."""
    if os.getpid() != 1:
        sys.stderr.write("failshut.drill.worker is started by `failshut drill`, in namespaces of its own\n")
        return 2
    _isolate()
    # Pickled by our own parent, on a pipe that nobody else holds.
    rehearsal: Rehearsal = pickle.loads(base64.b64decode(sys.stdin.readline()))  # noqa: S301
    _answer({"ready": True})
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        _answer(_in_child(job["scenario"], RuleSource(job["source"]), rehearsal))
    return 0


def _answer(payload: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(payload) + "\n")
    sys.stdout.flush()


def _isolate() -> None:
    """Cut this mount namespace off from the machine's, and hide what the lab must not see or touch."""
    netns.mount("none", "/", "none", netns.MS_REC | netns.MS_PRIVATE)
    netns.mount("failshut-drill", "/run", "tmpfs", netns.MS_NOSUID | netns.MS_NODEV)
    if Path("/etc/wireguard").is_dir():
        # The user's keys are no business of the lab's.
        netns.mount("failshut-drill", "/etc/wireguard", "tmpfs", netns.MS_NOSUID | netns.MS_NODEV)


def _in_child(name: str, source: RuleSource, rehearsal: Rehearsal) -> dict[str, object]:
    """Run a job in a child; return its answer, or a void result if it gives none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _nest(name, source, rehearsal, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if text:
        answer: dict[str, object] = json.loads(text)
        return answer
    return asdict(RunResult(name, source, reason="the run ended without an answer"))


def _nest(name: str, source: RuleSource, rehearsal: Rehearsal, writing: int) -> NoReturn:
    """Give the job its own namespaces, and run it in them as PID 1."""
    status = 1
    try:
        netns.die_with_parent(signal.SIGKILL)
        netns.unshare(netns.CLONE_NEWNS | netns.CLONE_NEWPID | netns.CLONE_NEWNET)
        inner = os.fork()
        if inner == 0:
            _job(name, source, rehearsal, writing)
        # The inner child holds the pipe's only end from here on: the reader sees its death.
        os.close(writing)
        status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    finally:
        os._exit(status)


def _job(name: str, source: RuleSource, rehearsal: Rehearsal, writing: int) -> NoReturn:
    """Run the scenario as PID 1 of the innermost namespaces, write the answer, and end without ceremony."""
    result = RunResult(name, source, reason="the run failed")
    try:
        netns.die_with_parent(signal.SIGKILL)
        netns.mount("none", "/", "none", netns.MS_REC | netns.MS_PRIVATE)
        netns.mount("proc", "/proc", "proc", netns.MS_NOSUID | netns.MS_NODEV | netns.MS_NOEXEC)
        netns.mount("failshut-drill", "/run", "tmpfs", netns.MS_NOSUID | netns.MS_NODEV)
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.alarm(DEADLINE_SECONDS)
        result = run_scenario((SCENARIOS | AT_LENGTH)[name], source, rehearsal)
    except BaseException as error:  # noqa: BLE001 - whatever happened, the run is void and says why
        tail = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__}: {error} ({Path(tail.filename).name}:{tail.lineno})"
        result = RunResult(name, source, reason=reason)
    finally:
        os.write(writing, json.dumps(asdict(result)).encode())
        os._exit(0)


def _out_of_time(_: int, __: object) -> NoReturn:
    raise TimeoutError(f"the run took longer than {DEADLINE_SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
