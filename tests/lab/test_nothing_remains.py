"""The drill and the audit's replay, killed at any moment, leave nothing: no process, namespace, interface, mount or file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from amount import amount
from failshut.drill.network.wait import until
from failshut.drill.pool import preflight
from failshut.drill.workers.process import CannotDrillError
from golden_cases import CASES

pytestmark = pytest.mark.lab
NOBODY = 65534
PLAIN = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs"),
)


DRILL = ("drill", "--example", "-j2", "works-recovery", "works-blocked-endpoint")
# A lock's own text says nothing of its timed sets: much is possible, and all of it is sent, for many seconds.
REPLAY = ("audit", str(CASES[0] / "expect.nft"), "--replay")


@pytest.fixture
def started(request):
    """A drill, or what the test names, that runs for long enough to be killed."""
    try:
        preflight(real_root=os.geteuid() == 0)
    except CannotDrillError as reason:
        pytest.skip(str(reason))
    words = getattr(request, "param", DRILL)
    if words is REPLAY and os.geteuid() != 0:
        pytest.skip("a replay needs root")
    # The package has no __main__ of its own: `main` is called as the entry point does.
    argv = (sys.executable, "-c", "from failshut.cli.main import main; main()", *words)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def _parents() -> dict[int, int]:
    """Return every process' parent."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    return parents


def _family(root: int) -> set[int]:
    """Return a process and everything that descends from it."""
    parents, family = _parents(), {root}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family


def _birth(process: int) -> str:
    """Return what tells a process from a later one with the same number."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _namespaces(processes) -> set[str]:
    """Return the network, mount and pid namespaces of some processes."""
    found = set()
    for process in processes:
        for kind in ("net", "mnt", "pid"):
            try:
                found.add(str(Path(f"/proc/{process}/ns/{kind}").readlink()))
            except OSError:
                continue
    return found


def _machine() -> tuple[str, str, str]:
    """Return the machine's own interfaces, mounts and named namespaces."""
    links = subprocess.run(("ip", "-o", "link"), capture_output=True, text=True, check=True).stdout
    mounts = "\n".join(line for line in Path("/proc/self/mounts").read_text().splitlines() if "failshut" in line or "netns" in line)
    netns = subprocess.run(("ip", "netns", "list"), capture_output=True, text=True, check=True).stdout
    return links, mounts, netns


@pytest.mark.parametrize(
    ("started", "grown_to"),
    [*((DRILL, each) for each in (2, 4, 6, 9, 12)[:: amount(usually=2, thoroughly=1)]), *((REPLAY, each) for each in (4, 6))],
    indirect=["started"],
    ids=lambda each: each[0] if isinstance(each, tuple) else str(each),
)
def test_a_drill_killed_at_any_point_leaves_nothing(started, grown_to):
    """SIGKILL to the drill or the replay alone, when it has so many processes: the kernel ends all the others."""
    before = _machine()
    assert until(lambda: len(_family(started.pid)) >= grown_to, within=60)
    own = _namespaces([os.getpid()])

    births = {each: _birth(each) for each in _family(started.pid)}
    namespaces = _namespaces(births) - own
    os.kill(started.pid, signal.SIGKILL)
    started.wait()

    assert until(lambda: not any(birth and _birth(each) == birth for each, birth in births.items()), within=60)
    assert until(lambda: not namespaces & _namespaces(_parents()), within=60)
    assert _machine() == before


@pytest.mark.parametrize("started", [DRILL, REPLAY], indirect=True, ids=lambda each: each[0])
def test_ctrl_c_leaves_nothing_and_says_so(started):
    """Exit code 130, one line, no traceback."""
    assert until(lambda: len(_family(started.pid)) >= 6, within=60)
    births = {each: _birth(each) for each in _family(started.pid)}

    os.killpg(started.pid, signal.SIGINT)
    _, complaint = started.communicate(timeout=20)

    assert started.returncode == 130
    assert b"Traceback" not in complaint
    assert until(lambda: not any(birth and _birth(each) == birth for each, birth in births.items()), within=60)


def test_the_machine_is_not_touched():
    """A run leaves the machine's interfaces, rules, sysctls and routes as they were."""

    def state() -> list[str]:
        commands = (("ip", "-o", "address"), ("ip", "rule"), ("ip", "route", "show", "table", "all"), ("nft", "list", "ruleset"))
        said = [subprocess.run(each, capture_output=True, text=True, check=False).stdout for each in commands]
        sysctls = ("ipv4/ip_forward", "ipv4/conf/all/src_valid_mark", "ipv6/conf/all/accept_dad", "ipv4/conf/all/arp_ignore")
        return [*said, *(Path("/proc/sys/net", each).read_text() for each in sysctls)]

    if os.geteuid() != 0:
        pytest.skip("reading the machine's rules needs root")
    before = state()

    done = _drill("guide-1")

    assert done.returncode == 0, done.stderr
    assert state() == before


def _python_for(user: tuple[str, ...]) -> str:
    """Return a Python that another user can run with what is installed here: the tests' own may lie in root's home."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for candidate in (sys.executable, "/usr/bin/python3"):
        argv = (
            *user,
            "unshare",
            "--user",
            "--map-root-user",
            candidate,
            "-c",
            "import failshut.cli.main, failshut.cli.verbs.drill",
        )
        if subprocess.run(argv, capture_output=True, env=environment, check=False).returncode == 0:
            return candidate
    pytest.skip("no Python here that another user can run in a user namespace")


def _drill(*words: str, prefix: tuple[str, ...] = (), python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = (*prefix, python, "-c", "from failshut.cli.main import main; main()", "drill", "--example", *words)
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_a_plain_user_may_drill_or_is_told_what_it_needs():
    """Where /dev/net/tun or user namespaces are refused, one clear message says so."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")

    done = _drill("guide-1", prefix=PLAIN, python=_python_for(PLAIN))

    if done.returncode != 0:
        assert done.returncode == 4
        assert "tun" in done.stderr or "namespaces" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("scenario", ["guide-1", "other-users", "works-inbound"])
def test_a_plain_user_with_a_tun_device_can_drill(scenario):
    """In user namespaces; what needs another uid is skipped, and says so."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a tun device that anybody may open, in a mount namespace of its own")
    make = 'mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"'
    python = _python_for(PLAIN)

    done = _drill(scenario, prefix=("unshare", "--mount", "sh", "-c", make, "sh", *PLAIN), python=python)

    if "unshare" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    if scenario == "other-users":
        assert "skipped" in done.stdout
        assert "another user id" in done.stdout
