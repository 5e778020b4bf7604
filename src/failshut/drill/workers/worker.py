"""The worker: PID 1 of its own pid, mount and network namespaces; does jobs from standard input, answers on standard output.

Started by `process` through `setpriv --pdeathsig KILL unshare …`. Each job runs in a child with namespaces of its own once more:
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
from pathlib import Path
from typing import NoReturn

from failshut.drill.network import netns
from failshut.drill.workers.process import Work

# Longer than any run goes without a word of progress; one that hangs is void, and the others go on.
DEADLINE_SECONDS = 240


def main() -> int:
    """Read the work, then one job a line; answer each with one line, and say before it how far it is."""
    if os.getpid() != 1:
        sys.stderr.write("failshut.drill.workers.worker is started by failshut itself, in namespaces of its own\n")
        return 2
    _isolate()
    # Pickled by our own parent, on a pipe that nobody else holds.
    work: Work = pickle.loads(base64.b64decode(sys.stdin.readline()))  # noqa: S301
    _answer({"ready": True})
    for line in iter(sys.stdin.readline, ""):
        _answer(_in_child(work, json.loads(line)))
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


def _in_child(work: Work, job: dict[str, str]) -> dict[str, object]:
    """Do a job in a child; return its last word, or that it failed if it gives none. What it says before is passed on."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _nest(work, job, writing)
    os.close(writing)
    answer: dict[str, object] = {}
    with os.fdopen(reading) as pipe:
        for line in pipe:
            answer = json.loads(line)
            if "progress" in answer:
                _answer(answer)
                answer = {}
    os.waitpid(child, 0)
    return answer or work.failed(job, "the run ended without an answer")


def _nest(work: Work, job: dict[str, str], writing: int) -> NoReturn:
    """Give the job its own namespaces, and do it in them as PID 1."""
    status = 1
    try:
        netns.die_with_parent(signal.SIGKILL)
        netns.unshare(netns.CLONE_NEWNS | netns.CLONE_NEWPID | netns.CLONE_NEWNET)
        inner = os.fork()
        if inner == 0:
            _job(work, job, writing)
        # The inner child holds the pipe's only end from here on: the reader sees its death.
        os.close(writing)
        status = os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
    finally:
        os._exit(status)


def _job(work: Work, job: dict[str, str], writing: int) -> NoReturn:
    """Do the job as PID 1 of the innermost namespaces, write the answer, and end without ceremony."""
    result = work.failed(job, "the run failed")
    try:
        netns.die_with_parent(signal.SIGKILL)
        netns.mount("none", "/", "none", netns.MS_REC | netns.MS_PRIVATE)
        netns.mount("proc", "/proc", "proc", netns.MS_NOSUID | netns.MS_NODEV | netns.MS_NOEXEC)
        netns.mount("failshut-drill", "/run", "tmpfs", netns.MS_NOSUID | netns.MS_NODEV)
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.alarm(DEADLINE_SECONDS)
        result = work.carry_out(job, lambda done: _go_on(writing, done))
    except BaseException as error:  # noqa: BLE001 - whatever happened, the run is void and says why
        tail = traceback.extract_tb(error.__traceback__)[-1]
        result = work.failed(job, f"{type(error).__name__}: {error} ({Path(tail.filename).name}:{tail.lineno})")
    finally:
        _write(writing, result)
        os._exit(0)


def _go_on(pipe: int, done: int) -> None:
    """Say how far the job is, and give it as long again for the next step."""
    signal.alarm(DEADLINE_SECONDS)
    _write(pipe, {"progress": done})


def _write(pipe: int, payload: dict[str, object]) -> None:
    line = json.dumps(payload).encode() + b"\n"
    while line:
        line = line[os.write(pipe, line) :]


def _out_of_time(_: int, __: object) -> NoReturn:
    raise TimeoutError(f"the run came no further for {DEADLINE_SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
