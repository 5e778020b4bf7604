"""Published kill switches: the audit's answer to every question is the one that a separate model and real packets gave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit_questions import TUNNELS, load, questions
from failshut.audit.concrete.evaluate import evaluate
from failshut.audit.concrete.fate import holds
from failshut.audit.netfilter.route import Way, routes
from failshut.audit.symbolic.solve import Found, Solver, solver
from failshut.audit.symbolic.space import device_names
from failshut.audit.symbolic.ways import encode
from failshut.audit.world import World
from failshut.audit.world.facts import facts
from failshut.audit.world.told_apart import patterns
from failshut.model.ruleset import Ruleset

COLLECTION = Path(os.environ.get("FAILSHUT_RULESETS", Path(__file__).parents[4] / "shared" / "rulesets"))
FOLDERS = sorted(each.name for each in COLLECTION.iterdir() if each.is_dir()) if COLLECTION.is_dir() else []

# There the separate model called an ICMP error new. The kernel calls it invalid, as a replay shows; the packet leaves as such.
NEVER_NEW = {("zanel1u_cloud_proxy_default_deny", 4, "ANYnew")}


def expected(ruleset: str) -> Iterator[tuple[int, str, bool]]:
    for line in (COLLECTION / "expected.tsv").read_text().splitlines()[1:]:
        name, family, question, model = line.split("\t")[:4]
        if name == ruleset:
            yield int(family), question, model == "can" and (name, int(family), question) not in NEVER_NEW


class Asked:
    """One ruleset, and its ways worked out once each."""

    def __init__(self, ruleset: Ruleset) -> None:
        self.ruleset = ruleset
        self.names = device_names(patterns(ruleset, World(tunnels=TUNNELS, underlay=("eth0", "docker0"))))
        self.solvers: dict[tuple[Way, int], list[Solver]] = {}

    def packet(self, question: str, family: int) -> tuple[Solver, Found] | None:
        """Such a packet, and the way it goes; None: there is none."""
        asked = questions(family)[question]
        ways = self.solvers.setdefault((asked.way, family), [])
        if not ways:
            for route in routes(self.ruleset, asked.way, family):
                ways.append(solver(encode(route, self.names), facts(asked.way, family)))
        return next(((each, found) for each in ways if (found := each.packets(asked.says))), None)


@pytest.mark.skipif(not FOLDERS, reason=f"the collection of published kill switches is not at {COLLECTION} (FAILSHUT_RULESETS)")
@pytest.mark.parametrize("name", FOLDERS)
def test_every_published_kill_switch_gets_the_answers_that_packets_gave(name):
    """Each question's answer is the collection's, and each packet found passes when it is sent alone."""
    asked = Asked(load(COLLECTION / name))
    wrong = []
    for family, question, can in expected(name):
        found = asked.packet(question, family)
        if (found is not None) is not can:
            wrong.append((family, question, can))
        if found is not None:
            route = found[0].encoding.route
            answers = found[1].answers
            fate = evaluate(route, found[1].packet, lambda place, answers=answers: answers.get(place, False))
            assert fate.leaves
            assert holds(questions(family)[question].says, fate)

    assert wrong == []
