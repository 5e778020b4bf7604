"""Policy → nft text, case by case: a case is a folder with policy.toml, facts.toml and expect.nft. A new one needs no code.

Golden text that nothing loads proves nothing: each is also loaded into a kernel, twice, and read back.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from failshut.arming.compare import canonical_text
from failshut.emit.nft import emit
from failshut.host.sources import check_text
from failshut.lower import lower
from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind
from failshut.model.ruleset import Ruleset
from failshut.model.units import InterfaceName
from failshut.read.nft import read

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/policy.toml"))
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def compile_case(case: Path) -> Ruleset:
    checked = check_text((case / "policy.toml").read_bytes(), "policy.toml")
    assert checked.policy is not None, checked.findings
    facts = case / "facts.toml"
    settings = tomllib.loads(facts.read_text()) if facts.exists() else {}
    kind = WireGuardKind(settings.get("kind", "userspace"))
    machine = HostFacts(
        underlay=tuple(InterfaceName(each) for each in settings.get("underlay", ["eth0"])),
        dhcp_uids=(0, 998),
        tunnels={tunnel.interface: LiveTunnel(kind) for tunnel in checked.policy.tunnels},
        egress=settings.get("egress", True),
    )
    return lower(checked.policy, machine)


@by_name
def test_the_policy_compiles_to_the_expected_text(case, request):
    """The text is what a reviewer approved, byte for byte."""
    text = emit(compile_case(case))
    expected = case / "expect.nft"
    if request.config.getoption("--update-golden"):
        expected.write_text(text)

    assert text == expected.read_text()


@by_name
def test_the_expected_text_loads_and_reads_back_as_compiled(case, sandbox):
    """nft takes it, takes it again over itself, and what the kernel then holds is the compiled ruleset."""
    wanted = compile_case(case)
    text = (case / "expect.nft").read_text()
    for device in (chain.base.device for table in wanted.tables for chain in table.chains if chain.base):
        if device and device != "eth0":
            sandbox.run("ip", "link", "add", device, "type", "bridge")

    for _ in range(2):
        loaded = sandbox.run("nft", "-f", "-", stdin=text)
        assert loaded.returncode == 0, loaded.stderr

    tables = []
    for table in wanted.tables:
        name = (str(table.family), table.name)
        listings = (sandbox.run("nft", flag, "list", "table", *name).stdout for flag in ("-j", "-s"))
        tables += read(*listings).tables
    assert canonical_text(Ruleset(tuple(tables))) == canonical_text(wanted)


@pytest.mark.scenario(93)
@by_name
def test_a_file_cut_anywhere_never_opens_the_lock(case, sandbox):
    """Cut at any line, over an armed lock: nft refuses it, or what it leaves still ends in a drop."""
    text = (case / "expect.nft").read_text()
    lines = text.splitlines(keepends=True)
    probe = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.168.50.9', 4242))"
    script = (
        "i=0; while [ -e /run/cut/$i ]; do nft -f /run/full || exit 3; nft -f /run/cut/$i 2>/dev/null;"
        f' python3 -c "{probe}" 2>/dev/null && echo leaked at $i; i=$((i + 1)); done; echo tried $i'
    )
    assert sandbox.run("python3", "-c", probe).returncode == 0, "the control: without the lock the packet leaves"
    sandbox.write("/run/full", text)
    sandbox.run("mkdir", "/run/cut")
    # Only the cuts after which the remainder is still text that nft may accept: block ends and top-level lines.
    cuts = [number for number, line in enumerate(lines, 1) if not line.startswith("\t")]
    for index, number in enumerate(cuts):
        sandbox.write(f"/run/cut/{index}", "".join(lines[:number]))

    done = sandbox.run("sh", "-c", script)

    assert "leaked" not in done.stdout
    assert done.stdout.strip().endswith(f"tried {len(cuts)}"), done.stderr
