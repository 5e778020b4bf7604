"""The golden cases as an audit sees them: the text that is loaded, and the world that the policy describes."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

from failshut.audit.allowed import as_granted, world_of
from failshut.audit.world import World
from failshut.config.declaration import Declaration
from failshut.config.policy_file import parse
from failshut.config.resolve import resolve
from failshut.host.sources import fetch
from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind
from failshut.model.ruleset import Ruleset
from failshut.model.units import InterfaceName
from failshut.read.nft_text import read_text

CASES = sorted(path.parent for path in (Path(__file__).parent / "golden").glob("*/policy.toml"))


def case_world(case: Path, alone: bool = True) -> World:
    declaration = parse((case / "policy.toml").read_bytes(), "policy.toml")
    assert isinstance(declaration, Declaration), declaration
    checked = resolve(declaration, replace(fetch(declaration), cgroups=frozenset(declaration.cgroups)))
    assert checked.policy is not None, checked.findings
    facts = case / "facts.toml"
    settings = tomllib.loads(facts.read_text()) if facts.exists() else {}
    kind = WireGuardKind(settings.get("kind", "userspace"))
    machine = HostFacts(
        underlay=tuple(InterfaceName(each) for each in settings.get("underlay", ["eth0"])),
        dhcp_uids=(0, 998),
        tunnels={tunnel.interface: LiveTunnel(kind) for tunnel in checked.policy.tunnels},
        egress=settings.get("egress", True),
        uplinked=tuple(InterfaceName(each) for each in settings.get("uplinked", [])),
    )
    return world_of(checked.policy, machine, alone)


def case_ruleset(case: Path) -> Ruleset:
    reading = read_text((case / "expect.nft").read_text(), "expect.nft")
    assert reading.is_whole, reading.findings
    return as_granted(reading.ruleset)
