"""A worker process as its parent sees it: started in namespaces of its own, asked one job at a time, gone when we are."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

from failshut.host.run import search_path

Progress = Callable[[int], None]


class CannotDrillError(RuntimeError):
    """The machine refuses what a lab needs: what, and what would help."""


class Work(Protocol):
    """What a worker is given: it is pickled to it, and knows how to do its jobs there. Answers are JSON objects."""

    def carry_out(self, job: dict[str, str], progress: Progress) -> dict[str, object]:
        """Do a job in namespaces that belong to the calling process alone; `progress` is told how much is done."""

    def failed(self, job: dict[str, str], reason: str) -> dict[str, object]:
        """Return the answer for a job that broke off."""


def worker_command(*, real_root: bool) -> tuple[str, ...]:
    """Return the command that starts a worker: it dies with us, and everything in its namespaces dies with it."""
    user = () if real_root else ("--user", "--map-root-user")
    return (
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", *user, "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc"),
        *(sys.executable, "-m", "failshut.drill.workers.worker"),
    )


class WorkerProcess:
    """One worker process. Raises CannotDrillError when the machine refuses it its namespaces."""

    def __init__(self, work: Work, *, real_root: bool) -> None:
        environment = {**os.environ, "PATH": search_path()}
        self._process = subprocess.Popen(
            worker_command(real_root=real_root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        greeting = self.ask(base64.b64encode(pickle.dumps(work)).decode())
        if not greeting.get("ready"):
            raise CannotDrillError(_refusal(self.complaint()))

    def ask(self, line: str, progress: Progress = lambda _: None) -> dict[str, object]:
        """Hand over one line and return the answer; empty when the worker died."""
        if self._process.stdin is None or self._process.stdout is None:
            return {}
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            while text := self._process.stdout.readline():
                answer: dict[str, object] = json.loads(text)
                if "progress" not in answer:
                    return answer
                progress(int(str(answer["progress"])))
        except (OSError, ValueError):
            # ValueError: the drill was interrupted, and the pipe closed under this thread.
            return {}
        return {}

    def close(self) -> None:
        """End the worker; its namespaces end with it."""
        self._process.kill()
        self._process.wait()

    def complaint(self) -> str:
        """End the worker and return what it said on standard error."""
        self._process.kill()
        try:
            return (self._process.communicate()[1] or "").strip()
        except ValueError:
            return "interrupted"


def _refusal(complaint: str) -> str:
    """Turn what unshare or the kernel said into what the user can do about it."""
    last = complaint.splitlines()[-1] if complaint else "no answer"
    return f"a lab can't be built here: {last}"
