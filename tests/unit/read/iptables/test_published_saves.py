"""Published kill switches, as the kernel held them: all of them are read, whole and without an unknown word.

They are third parties' text and no part of this repository: where the folder is not there, these tests are skipped.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from failshut.model.finding import Code
from failshut.model.ruleset import Family
from failshut.read.iptables import read_save

FOLDER = Path(os.environ.get("FAILSHUT_RULESETS", Path(__file__).parents[5] / "shared/rulesets"))
SAVES = sorted(FOLDER.glob("*/loaded.v[46].save"))

pytestmark = pytest.mark.skipif(not SAVES, reason=f"no published rulesets in {FOLDER}; FAILSHUT_RULESETS names another folder")


@pytest.mark.parametrize("path", SAVES or [FOLDER], ids=lambda each: f"{each.parent.name}-{each.name}")
def test_a_published_kill_switch_is_read_to_its_last_word(path):
    """Nothing is wrong, nothing unknown, and there are as many rules in every chain as the kernel lists through nftables."""
    family = Family.IP if ".v4." in path.name else Family.IP6

    reading = read_save(path.read_text(), path.name, family)

    assert reading.is_whole
    # One had base chains of nftables' own in a table of iptables' name.
    assert {each.code for each in reading.findings} <= {Code.RULES_ELSEWHERE}
    assert all("incompatible base-chains" in each.text for each in reading.approximations)
    listed = json.loads((path.parent / "loaded.nft.json").read_text())["nftables"]
    places = Counter((each["rule"]["family"], each["rule"]["table"], each["rule"]["chain"]) for each in listed if "rule" in each)
    for table in reading.ruleset.tables:
        for chain in table.chains:
            assert len(chain.rules) == places[family.value, table.name, chain.name] or "not listed" in chain.name
