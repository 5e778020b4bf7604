"""The kernel's routing rules, by `ip`; and the script that changes them."""

from __future__ import annotations

from ipaddress import ip_network

from failshut.host.network.listed import listed
from failshut.host.run import Result, run
from failshut.model.routing import IpVersion
from failshut.model.units import Prefix
from failshut.read.routing import KernelRule, parse_rules

# A hundred thousand routes take two seconds.
_SLOW = 60.0


def routing_rules() -> tuple[KernelRule, ...] | None:
    """Return every routing rule, IPv4's first; None when ip is missing or says something else. IPv6 that is off has none."""
    found: list[KernelRule] = []
    for family in IpVersion:
        result = run(["ip", f"-{family}", "-json", "-N", "rule", "show"])
        if not result.ok and family is IpVersion.IPV6:
            continue
        try:
            found += parse_rules(result.out, family) if result.ok else _unreadable()
        except (ValueError, TypeError):
            return None
    return tuple(found)


def on_link(device: str = "") -> list[tuple[Prefix, str]]:
    """Return the networks that are routed without a gateway, each with its device: of all devices, or of one."""
    words = ["route", "show", *(["dev", device] if device else [])]
    routes = [each for family in IpVersion for each in listed(f"-{family}", *words)]
    return [
        (ip_network(each["dst"], strict=False), device or each["dev"])
        for each in routes
        if "gateway" not in each and each.get("dst", "default") != "default" and (device or "dev" in each)
    ]


def run_router(script: str, *words: str) -> Result:
    """Run the routing script, whose text is given: it may not be installed yet."""
    return run(["/bin/sh", "-s", "--", *words], stdin=script, timeout=_SLOW)


def _unreadable() -> tuple[KernelRule, ...]:
    raise ValueError("ip does not answer")
