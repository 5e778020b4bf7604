"""The kernel's routing rules, by `ip`; and the script that changes them."""

from __future__ import annotations

from failshut.host.run import Result, run
from failshut.model.routing import IpVersion
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


def run_router(script: str, *words: str) -> Result:
    """Run the routing script, whose text is given: it may not be installed yet."""
    return run(["/bin/sh", "-s", "--", *words], stdin=script, timeout=_SLOW)


def _unreadable() -> tuple[KernelRule, ...]:
    raise ValueError("ip does not answer")
