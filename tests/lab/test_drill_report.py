"""The drill's report and the other rules beside the lock, from real runs: what is painted is what was captured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from failshut.drill.network.plan import make_plan
from failshut.drill.network.rules import RuleSource, guide_rules
from failshut.drill.pool import Job, Worker, preflight
from failshut.drill.rules.beside import loadable
from failshut.drill.workers.process import CannotDrillError
from lab.drilling import ALL, example_rehearsal
from pages import article, assert_accessible, assert_self_contained, parsed, words_of

SCENARIOS = ("guide-1", "packet-sockets", "forged-stamp", "works-loopback")


@pytest.fixture
def lab_here():
    """Skip where no lab can be built."""
    try:
        preflight(real_root=os.geteuid() == 0)
    except CannotDrillError as reason:
        pytest.skip(str(reason))


def drill(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "failshut", "drill", "--example", "--window", "0.6", "-j", "3", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.lab
def test_what_is_painted_is_what_was_captured(lab_here, tmp_path):
    """One drill of a few attacks with the guide's rules beside it: its answer in JSON agrees with itself and with its page."""
    del lab_here
    rehearsal = example_rehearsal()
    plan = make_plan(rehearsal.policy, rehearsal.facts)
    others = []
    for version in (4, 6):
        (tmp_path / f"rules.v{version}").write_text(guide_rules(plan, version))
        others += ["--beside", str(tmp_path / f"rules.v{version}")]

    done = drill(*SCENARIOS, *others, "--json", "--report", str(tmp_path / "drill.html"))

    assert done.returncode == 0, done.stderr
    answer, page = json.loads(done.stdout), (tmp_path / "drill.html").read_text()
    for each in answer["scenarios"]:
        _bins_sum_up_to_the_counts(each)
        _the_page_shows(each, parsed(page))
    _the_tunnel_carries_until_the_attack(next(each for each in answer["scenarios"] if each["name"] == "guide-1"))
    assert_self_contained(page)
    assert_accessible(page)


def _bins_sum_up_to_the_counts(answer) -> None:
    """For the lock, without it, and under the other rules."""
    lines, through = answer["timelines"], answer["allowed"].get("transport", 0)
    if answer["status"] == "skipped":
        return
    assert sum(lines["lock"]["sent"]) == answer["sent"]
    assert sum(lines["lock"]["tunnel"]) == through
    assert sum(lines["lock"]["allowed"]) == sum(answer["allowed"].values()) - through
    assert sum(lines["lock"]["leaked"]) == answer["leaked"]
    if lines["control"]:
        assert sum(lines["control"]["leaked"]) == answer["without_the_lock"]
    if lines["beside"]:
        assert sum(lines["beside"]["leaked"]) == answer["beside"]["leaked"]
    for line in filter(None, (lines[name] for name in ("lock", "control", "beside"))):
        assert len({len(line[row]) for row in ("sent", "tunnel", "allowed", "leaked", "blocked")}) == 1


def _the_tunnel_carries_until_the_attack(answer) -> None:
    """Above the line before, below it afterwards; without the lock and under the guide's rules it leaks."""
    lock, control = answer["timelines"]["lock"], answer["timelines"]["control"]
    began, ended = (int(lock[name] / 0.1) for name in ("attack_began", "attack_ended"))

    assert sum(lock["tunnel"][:began]) > 0
    assert sum(lock["blocked"][ended:]) > sum(lock["blocked"][:began])
    assert sum(control["leaked"][int(control["attack_began"] / 0.1) :]) > 0
    assert answer["beside"]["leaked"] > 0


def _the_page_shows(answer, tree) -> None:
    """Verdict, packets, and a column for no lock, for the guide's rules, and for failshut."""
    shown = words_of(article(tree, answer["name"]))
    assert answer["title"] in shown
    if answer["status"] == "skipped":
        assert answer["reason"] in shown
    elif answer["kind"] == "attack":
        assert answer["status"] in shown
        assert f"no lock {answer['without_the_lock']:,} leaked" in shown
        assert f"rules.v4, rules.v6 {answer['beside']['leaked']:,} leaked" in shown
        assert f"failshut {answer['leaked']:,} leaked" in shown
        assert all(" ".join(line.split()) in shown for line in (*answer["leaks"], *answer["beside"]["leaks"]))


FILES = {
    "held": ("table ip t { chain o { type filter hook output priority 0; oifname != wg0 ip daddr != 203.0.113.10 drop; }; }", ""),
    "refused": ("table inet t { chain o { type filter hook output priority 0; oif absent0 drop; }; }", "can't be loaded"),
}


@pytest.mark.lab
@pytest.mark.parametrize("case", FILES)
def test_a_file_for_nft_is_loaded_as_it_is(lab_here, case):
    """IPv4 alone is held by the one, as it says; the other is refused by the kernel, and nothing is judged."""
    del lab_here
    text, reason = FILES[case]
    worker = Worker(replace(example_rehearsal(), beside=loadable(text.encode(), "other.nft"), window=0.6))
    try:
        result = worker.run(Job(ALL["guide-3"], RuleSource.BESIDE))
    finally:
        worker.close()

    assert reason in result.reason
    assert bool(result.reason) is bool(reason)
    assert not any("198.18." in each for each in result.leaks)
    assert bool(result.leaked) is not bool(reason)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--report", "/nowhere/at/all.html"), 2, "no report can be written there"),
        (("--report", "/"), 2, "is a directory"),
        (("--beside", "/nowhere.v4"), 2, "No such file"),
        (("--beside", "/proc/version"), 2, "neither what `iptables-save`"),
    ],
)
def test_what_can_not_be_done_is_said_before_the_drill(words, code, said):
    """Nobody waits a minute for a file that can't be read or written."""
    done = drill("guide-1", *words)

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "held" not in done.stdout
