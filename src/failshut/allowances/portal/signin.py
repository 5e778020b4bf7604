"""The sign-in: probe, open for one browser, shut as soon as the tunnel's handshake is through, or anything else ends it.

What opens is the kernel's: elements with a deadline in the lock's own sets. This program may be killed at any moment; what it
leaves open ends when it would have.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from failshut.allowances.errors import RefusedError
from failshut.allowances.launch import Start, command_line, ready_slice
from failshut.allowances.outside import why_not
from failshut.allowances.portal.browser import Browser, private
from failshut.allowances.portal.ending import Ending
from failshut.allowances.portal.verdict import Seen, Verdict, judge, seen, sign_in_page
from failshut.allowances.portal.waking import newest_handshake, wake
from failshut.arming.armed.status import read_status
from failshut.drill.network.wait import pace, until
from failshut.host import locks
from failshut.host.account import Account, named
from failshut.host.filter import programs
from failshut.host.network.links import underlay_now
from failshut.host.network.resolvers import FoundResolver, network_resolvers
from failshut.host.service import cgroups
from failshut.model.policy import PORTAL_SLICE, slice_path
from failshut.model.progress import Report
from failshut.model.timed import LONGEST_SIGN_IN, PORTAL_PROGRAMS

_GROUP = slice_path(PORTAL_SLICE)
_HELP = "write portal = true under [allow] of the policy, look with `failshut plan`, then `failshut arm`"
_RUN = Path("/run")
_PREFIX = "failshut-portal-"
_STEP, _BETWEEN_WAKINGS = 0.2, 2.0
# In seconds: who closes the browser on "you are connected" need not wait for the tunnel.
_AFTERWARDS = 15.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: the page to probe, for how many seconds at most, by which resolvers (found where none is given)."""

    account: Account
    environment: Mapping[str, str]
    probe: str
    browser: Browser | None
    seconds: int = LONGEST_SIGN_IN
    resolvers: tuple[FoundResolver, ...] = ()
    # Whether the browser may write on our standard output.
    talkative: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found and how it ended; `page` is where the browser began."""

    ending: Ending
    verdict: Verdict
    seen: Seen
    resolvers: tuple[FoundResolver, ...]
    page: str = ""


@dataclass(slots=True)
class _Run:
    """One opening, from the first element to the last."""

    request: Request
    resolvers: tuple[FoundResolver, ...]
    tunnels: tuple[str, ...]
    signals: list[int] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def start(self) -> Start:
        """How a program of the sign-in starts, as the calling user."""
        addresses = tuple(each.address for each in self.resolvers)
        return Start(PORTAL_SLICE, self.request.account, addresses, self.request.seconds)

    @property
    def is_over(self) -> Ending | None:
        """Why it must end now, for reasons that need no look at the tunnel."""
        if self.signals:
            return Ending.STOPPED
        return Ending.TIME_UP if time.monotonic() - self.began >= self.request.seconds else None

    def has_handshake(self) -> bool:
        """Whether a tunnel had a handshake since the opening; the kernel tells its time in whole seconds."""
        age = newest_handshake(self.tunnels)
        return age is not None and age < time.monotonic() - self.began - 1


def sign_in(request: Request, report: Report) -> Outcome:
    """Probe, and where a portal is, open for its sign-in. Raises `RefusedError` while nothing is open."""
    if programs.listed(PORTAL_PROGRAMS) is None:
        raise why_not("the armed lock lets nobody sign in", _HELP)
    record = read_status().record
    tunnels, bridges = (record.tunnels, record.bridges) if record else ((), ())
    resolvers = request.resolvers or network_resolvers(underlay_now(tunnels, bridges))
    if not resolvers:
        raise RefusedError("no resolver of this network is known", help="is the network up? --resolver ADDRESS names one")
    with _alone(), _noted() as signals:
        run = _Run(request, resolvers, tunnels, signals)
        with _open(run, report):
            found = _probe(run)
            verdict = judge(found)
            if verdict is not Verdict.PORTAL or run.signals:
                return Outcome(_without(verdict, run), verdict, found, resolvers)
            page = sign_in_page(found, request.probe)
            report(f"a portal answers for the Internet: {page}")
            ending = _browse(run, page, report)
        if ending is Ending.BROWSER_ENDED and until(run.has_handshake, within=_AFTERWARDS, step=_STEP):
            ending = Ending.SIGNED_IN
        return Outcome(ending, verdict, found, resolvers, page)


def _without(verdict: Verdict, run: _Run) -> Ending:
    if run.signals:
        return Ending.STOPPED
    return Ending.NO_PORTAL if verdict is Verdict.OPEN else Ending.NO_ANSWER


@contextlib.contextmanager
def _open(run: _Run, report: Report) -> Iterator[None]:
    """Open for what runs in the sign-in's slice; shut when the block ends, however it does."""
    name = ready_slice(PORTAL_SLICE)
    lists = (PORTAL_PROGRAMS, *programs.PORTAL_RESOLVERS.values())
    elements = [(PORTAL_PROGRAMS, programs.group(name)), *(programs.resolver(each.address) for each in run.resolvers)]
    try:
        # What an earlier one left open ends here, and whoever it left running: the group is about to be let out.
        shut = programs.empty(lists)
        cgroups.kill(_GROUP)
        opened = programs.admit(elements, seconds=run.request.seconds) if shut.ok else shut
        if not opened.ok:
            raise RefusedError(f"the kernel does not open for a sign-in: {opened.complaint}")
        yield
    finally:
        closed = programs.empty(lists)
        cgroups.kill(_GROUP)
        if closed.ok:
            report("shut")
        else:
            report(f"it could not be shut ({closed.complaint}); the kernel ends it within {run.request.seconds} s of its opening")


def _probe(run: _Run) -> Seen:
    """Look for a portal from inside the sign-in's group, as root: no user's program has a part in it."""
    start = Start(PORTAL_SLICE, named("0"), seconds=run.request.seconds)
    # -P: a directory that the caller happens to stand in brings no code along.
    words = [sys.executable, "-P", "-m", "failshut.allowances.portal.probe", run.request.probe]
    line = command_line(start, [*words, *(str(each.address) for each in run.resolvers)])
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and run.is_over is None:
            pace(_STEP)
        if process.poll() is None:
            process.kill()
        return seen(process.communicate()[0])


def _browse(run: _Run, page: str, report: Report) -> Ending:
    browser = run.request.browser
    if browser is None:
        raise RefusedError(f"no browser was found for {page}", help="--browser COMMAND names one; it is told the page")
    with _profile(run.request.account, browser) as profile:
        line = command_line(run.start, browser.words(profile, page))
        quiet = subprocess.DEVNULL if browser.is_windowed else None
        output = quiet if run.request.talkative else subprocess.DEVNULL
        environment = private(run.request.environment, profile)
        with subprocess.Popen(line, env=environment, stdout=output, stderr=quiet, cwd=profile) as process:
            report(f"{Path(browser.command[0]).name} may sign in, for {run.request.seconds} s at most; everything else stays dark")
            ending = _wait(run, process)
            cgroups.kill(_GROUP)
            process.kill()
    return ending


def _wait(run: _Run, browser: subprocess.Popen[bytes]) -> Ending:
    woken = 0.0
    while True:
        if over := run.is_over:
            return over
        if run.has_handshake():
            return Ending.SIGNED_IN
        # A launcher may end before its browser does.
        if browser.poll() is not None and cgroups.is_empty(_GROUP):
            return Ending.BROWSER_ENDED
        if time.monotonic() - woken > _BETWEEN_WAKINGS:
            wake(run.tunnels)
            woken = time.monotonic()
        pace(_STEP)


@contextlib.contextmanager
def _profile(account: Account, browser: Browser) -> Iterator[Path]:
    """Give the browser a home of its own, in memory; nothing of it remains."""
    for left in _RUN.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_RUN))
    try:
        for name, text in browser.kind.files if browser.kind else ():
            (home / name).write_text(text, encoding="utf-8")
            os.chown(home / name, account.uid, account.gid)
        os.chown(home, account.uid, account.gid)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """See to it that one sign-in goes on at a time."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.holding(Path(_RUN, "failshut-portal.lock")))
        except BlockingIOError:
            raise RefusedError("another `failshut portal` is at work") from None
        yield


@contextlib.contextmanager
def _noted() -> Iterator[list[int]]:
    """Note the signals instead of dying of them, until the block ends: what was opened is shut first."""
    signals: list[int] = []
    before = {each: signal.signal(each, lambda number, _: signals.append(number)) for each in _SIGNALS}
    try:
        yield signals
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
