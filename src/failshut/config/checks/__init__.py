"""What contradicts itself, or opens more than anyone can mean. Each check is one function; `CHECKS` is the list of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from failshut.config.checks.backend import iptables_can_say_it
from failshut.config.checks.lan import (
    lan_interfaces_are_no_tunnels,
    lan_is_beside_the_tunnel,
    lan_is_here_or_there,
    lan_is_narrow,
    lan_is_somewhere,
)
from failshut.config.checks.metrics import numbers_are_protected
from failshut.config.checks.outside import (
    forwarding_is_between_others,
    outside_is_narrow,
    outside_is_not_the_lan,
    sites_are_apart,
)
from failshut.config.checks.services import (
    control_groups_exist,
    exceptions_are_apart,
    exceptions_are_pinned,
    names_are_unique,
    services_are_unique,
    services_say_whom_they_serve,
)
from failshut.config.checks.tailscale import tailscale_is_apart
from failshut.config.checks.tunnels import endpoints_are_elsewhere, hops_lead_out, marks_are_free, some_tunnel
from failshut.config.checks.view import View
from failshut.model.finding import Finding

CHECKS: tuple[Callable[[View], Iterator[Finding]], ...] = (
    some_tunnel,
    marks_are_free,
    endpoints_are_elsewhere,
    hops_lead_out,
    lan_is_somewhere,
    lan_is_narrow,
    lan_is_beside_the_tunnel,
    lan_is_here_or_there,
    lan_interfaces_are_no_tunnels,
    names_are_unique,
    services_are_unique,
    services_say_whom_they_serve,
    exceptions_are_pinned,
    exceptions_are_apart,
    control_groups_exist,
    outside_is_narrow,
    outside_is_not_the_lan,
    forwarding_is_between_others,
    sites_are_apart,
    tailscale_is_apart,
    numbers_are_protected,
    iptables_can_say_it,
)

__all__ = ["CHECKS", "View"]
