"""Policy → nft text, case by case: a case is a folder with policy.toml, facts.toml and expect.nft. A new one needs no code.

Golden text that nothing loads proves nothing: each is also loaded into a kernel, twice, and read back.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from failshut.arming.kernel.compare import canonical_text
from failshut.emit.nft import emit
from failshut.host.filter.nft import Listing
from failshut.lower import lower
from golden_cases import CASES, load_case

by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@by_name
def test_the_policy_compiles_to_the_expected_text(case, request):
    """The text is what a reviewer approved, byte for byte."""
    text = emit(lower(*load_case(case)))
    expected = case / "expect.nft"
    if request.config.getoption("--update-golden"):
        expected.write_text(text)

    assert text == expected.read_text()


@by_name
def test_the_expected_text_loads_and_reads_back_as_compiled(case, sandbox):
    """nft takes it, takes it again over itself, and what the kernel then holds is the compiled ruleset."""
    wanted = lower(*load_case(case))
    text = (case / "expect.nft").read_text()
    for device in (chain.base.device for table in wanted.tables for chain in table.chains if chain.base):
        if device and device != "eth0":
            sandbox.run("ip", "link", "add", device, "type", "bridge")

    for _ in range(2):
        loaded = sandbox.run("nft", "-f", "-", stdin=text)
        assert loaded.returncode == 0, loaded.stderr

    texts = tuple(sandbox.run("nft", "-s", "-t", "list", "table", str(each.family), each.name).stdout for each in wanted.tables)
    assert canonical_text(Listing(texts=texts).ruleset()) == canonical_text(wanted)


# Loads every prefix of a file over the whole one, and sends a packet that only an open machine lets out.
CUT_EVERYWHERE = """
import socket, subprocess, sys

def leaks():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.168.50.9", 53))
    except OSError:
        return False
    return True

def load(text):
    return subprocess.run(["nft", "-f", "-"], input=text, text=True, capture_output=True).returncode == 0

text = sys.stdin.read()
lines = text.splitlines(keepends=True)
assert leaks(), "the control: without the lock the packet leaves"
# Inside a block every cut is a syntax error: only ends of blocks and top-level lines can be valid text.
cuts = [number for number, line in enumerate(lines, 1) if not line.startswith("\\t")]
accepted = 0
for number in cuts:
    assert load(text)
    accepted += load("".join(lines[:number]))
    assert not leaks(), f"cut after line {number}"
print(len(cuts), accepted)
"""


@pytest.mark.parametrize("name", ["minimal", "guide", "two_uplinks_and_services"])
def test_a_file_cut_anywhere_never_opens_the_lock(name, sandbox):
    """Cut at any line, over an armed lock: nft refuses it, or what it leaves drops; and some cuts are indeed valid text."""
    text = (Path(__file__).parent / name / "expect.nft").read_text()

    done = sandbox.run(sys.executable, "-c", CUT_EVERYWHERE, stdin=text)

    assert done.returncode == 0, done.stderr
    tried, accepted = map(int, done.stdout.split())
    assert tried > accepted > 1
