"""Somebody's script, run where it can harm nothing, and the rules that its kernel holds then.

It runs as root of a user namespace: to this machine that is a user whom nobody knows and who owns nothing. It has a network
namespace of its own with devices as guides have them and no way out, a copy of /etc, and every other file as it is, read-only.
"""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from failshut.drill.network import netns
from failshut.drill.network.wait import until
from failshut.drill.scripted.place import FIRST_ID, IDS, MOST_WRITTEN, PLACE, PROGRAMS, STAND_INS, furnish, shut_off
from failshut.drill.workers.process import CannotDrillError, Progress, WorkerProcess
from failshut.host.files import PRIVATE_FILE
from failshut.host.filter.rules import RunningRules, running_rules
from failshut.read.files.scripts import Script

CLONE_NEWUSER = 0x10000000
_MOST_SECONDS, _MOST_SAID, _MOST_PROCESSES = 30.0, 4000, 512
_PATH = f"{PLACE}/bin:{PROGRAMS}"


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of a script: the rules, its exit status (None: it was ended after `seconds`), what it said.

    `refused` are the commands that were to add rules and could not; `accounts` the users and `:groups` that there were, by name.
    """

    rules: RunningRules
    status: int | None
    said: str
    refused: tuple[str, ...] = ()
    accounts: dict[str, int] = field(default_factory=dict)
    seconds: float = _MOST_SECONDS


def rules_of_script(script: Script) -> Ran:
    """Run a script and return the rules that it left. Raises CannotDrillError where that can't be done."""
    process = WorkerProcess(_Running(script), real_root=True)
    try:
        answer = process.ask("{}")
        if reason := answer.get("failed") or (not answer and (process.complaint() or "no answer")):
            raise CannotDrillError(f"the script can't be run here: {reason}")
    finally:
        process.close()
    return _ran(answer)


def _ran(answer: dict[str, object]) -> Ran:
    saves = answer["saves"]
    listed = tuple((str(a), str(b), str(c)) for a, b, c in saves) if isinstance(saves, list) else ()
    status = answer["status"]
    refused = tuple(str(answer["refused"]).splitlines())
    accounts = answer["accounts"] if isinstance(answer["accounts"], dict) else {}
    ipsets = answer["ipsets"]
    rules = RunningRules(str(answer["nft"]), listed, ipsets if isinstance(ipsets, str) else None)
    return Ran(rules, status if isinstance(status, int) else None, str(answer["said"]), refused, accounts)


@dataclass(frozen=True, slots=True)
class _Running:
    """The work that a worker is given."""

    script: Script

    def carry_out(self, job: dict[str, str], progress: Progress) -> dict[str, object]:
        """Run the script, then list the rules from outside its user namespace, with this machine's own tools."""
        del job, progress
        shut_off()
        furnish(self.script)
        child, network = _start()
        status = _await(child)
        netns.enter(network)
        said, refused = (_tail(PLACE / each) for each in ("said", "refused"))
        rules = running_rules()
        heard = {"status": status, "said": said, "refused": refused, "accounts": _accounts()}
        return {"nft": rules.nft, "saves": [list(each) for each in rules.saves], "ipsets": rules.ipsets, **heard}

    def failed(self, job: dict[str, str], reason: str) -> dict[str, object]:
        """Return that nothing came of it."""
        del job
        return {"failed": reason}


def _accounts() -> dict[str, int]:
    """Return the number of each user that there is here, and of each `:group`."""
    listed = (("", "passwd"), (":", "group"))
    lines = [(sign, each.split(":")) for sign, file in listed for each in Path("/etc", file).read_text().splitlines()]
    return {f"{sign}{each[0]}": int(each[2]) for sign, each in lines if len(each) > 2 and each[2].isdecimal()}


def _tail(file: Path) -> str:
    return file.read_bytes()[-_MOST_SAID:].decode("utf-8", errors="replace")


def _start() -> tuple[int, int]:
    """Start the script as root of namespaces of its own; return its process, and a descriptor of its network."""
    ready, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _become_nobody(ready[1], mapped[0])
    os.close(ready[1])
    if os.read(ready[0], 1) != b"+":
        raise CannotDrillError("the kernel refuses a user namespace (sysctl user.max_user_namespaces)")
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{kind}").write_text(f"0 {FIRST_ID} {IDS}\n")
    network = os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    os.write(mapped[1], b"+")
    return child, network


def _become_nobody(ready: int, mapped: int) -> NoReturn:
    try:
        netns.unshare(CLONE_NEWUSER | netns.CLONE_NEWNET)
        os.write(ready, b"+")
        os.read(mapped, 1)
        os.setgroups([])
        os.setgid(0)
        os.setuid(0)
        os.setsid()
        for limit, most in ((resource.RLIMIT_FSIZE, MOST_WRITTEN), (resource.RLIMIT_NPROC, _MOST_PROCESSES)):
            resource.setrlimit(limit, (most, most))
        said = os.open(PLACE / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for here, there in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(here, there)
        os.chdir(STAND_INS[0])
        environment = {"PATH": _PATH, "HOME": STAND_INS[0], "LC_ALL": "C", "USER": "root", "LOGNAME": "root"}
        os.closerange(3, 4096)
        os.execve("/bin/sh", ["sh", str(PLACE / "start")], environment)  # noqa: S606 - it is a shell
    finally:
        os._exit(126)


def _await(child: int) -> int | None:
    ended: list[int] = []

    def has_ended() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        ended.extend([os.waitstatus_to_exitcode(status)] if pid else [])
        return bool(ended)

    if until(has_ended, within=_MOST_SECONDS):
        return ended[0]
    os.killpg(child, signal.SIGKILL)
    return None
