"""Every scenario, by theme. To add one: write its function, add it to its module's `SCENARIOS`."""

from __future__ import annotations

from failshut.drill.scenario import Scenario
from failshut.drill.scenarios import (
    below_ip,
    coexistence,
    dhcp,
    dns,
    endpoint,
    flows,
    forwarding,
    guide,
    lan,
    limits,
    reload,
    routing,
    sockets,
    tailscale,
    works,
)

_MODULES = (
    *(guide, routing, flows, dns, lan, endpoint, sockets, below_ip, forwarding, coexistence, reload, works, dhcp, tailscale),
    limits,
)

# Run by the tests only.
AT_LENGTH: dict[str, Scenario] = {reload.AT_LENGTH.name: reload.AT_LENGTH}

SCENARIOS: dict[str, Scenario] = {each.name: each for module in _MODULES for each in module.SCENARIOS}

# Scenario → what its module says of itself.
THEMES: dict[str, str] = {each.name: module.__doc__ or "" for module in _MODULES for each in module.SCENARIOS}
