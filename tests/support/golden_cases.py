"""The golden cases: a folder each, with policy.toml, facts.toml where the machine is not the usual one, and expect.nft."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from failshut.config.declaration import Declaration
from failshut.config.policy_file import parse
from failshut.config.resolve import resolve
from failshut.host.sources import fetch
from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind
from failshut.model.pin import Pin
from failshut.model.policy import Policy
from failshut.model.units import InterfaceName

CASES = sorted(path.parent for path in (Path(__file__).parents[1] / "golden").glob("*/policy.toml"))


def load_case(case: Path) -> tuple[Policy, HostFacts]:
    """Return the policy of a case, and the machine it is for."""
    declaration = parse((case / "policy.toml").read_bytes(), str(case / "policy.toml"))
    assert isinstance(declaration, Declaration), declaration
    facts = case / "facts.toml"
    settings = tomllib.loads(facts.read_text()) if facts.exists() else {}
    # The compiled text is the same on every machine: also where a policy's control groups don't exist.
    pins = {name: Pin(name, tuple(map(ip_address, found))) for name, found in settings.get("names", {}).items()}
    checked = resolve(declaration, replace(fetch(declaration, pins=pins), cgroups=frozenset(declaration.cgroups)))
    assert checked.policy is not None, checked.findings
    kind = WireGuardKind(settings.get("kind", "userspace"))
    machine = HostFacts(
        underlay=tuple(InterfaceName(each) for each in settings.get("underlay", ["eth0"])),
        dhcp_uids=(0, 998),
        tunnels={tunnel.interface: LiveTunnel(kind) for tunnel in checked.policy.tunnels},
        egress=settings.get("egress", True),
        uplinked=tuple(InterfaceName(each) for each in settings.get("uplinked", [])),
        opened=settings.get("opened", False),
    )
    return checked.policy, machine
