"""Routing while the lock goes on and off: set, compared, put back. A failure stops nothing: the lock holds alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from failshut.arming.boot.generations import CURRENT, ROUTING_FILE, is_sealed
from failshut.boot.places import ARMED_DIRECTORY
from failshut.emit.routing import rule_text
from failshut.host.network.routes import routing_rules, run_router
from failshut.host.run import Result
from failshut.model.routing import IpVersion, Routing
from failshut.read.routing import KernelRule

# The kernel's own first table.
_LOCAL = 255


def kernel_rules() -> tuple[KernelRule, ...] | None:
    """Return the kernel's routing rules; None where ip does not list them, and nothing can be done about routing."""
    return routing_rules()


def lines_of(routing: Routing) -> tuple[str, ...]:
    """Return the rules as lines that compare."""
    return tuple(f"IPv{each.family}: {rule_text(each)}" for each in routing.rules)


def routing_difference(rules: Iterable[KernelRule], wanted: Iterable[str]) -> tuple[str, ...]:
    """Return a unified diff from the kernel's routing rules to the wanted ones; empty when they do the same.

    `wg-quick down` takes every rule that looks in its table, ours too, and `wg-quick up` brings its own: one of ours is no loss,
    unless a double hop makes the order count.
    """
    actual, goal = tuple(_actual(rules)), tuple(wanted)
    # A kernel without IPv6 has no rules for it.
    if not any(each.startswith("IPv6") for each in actual) and not _has_ipv6():
        goal = tuple(each for each in goal if not each.startswith("IPv6"))
    strict = any(" unreachable " in each for each in goal)
    kept = [each for each in goal if strict or ": not " not in each or each in actual]
    return tuple(difflib.unified_diff(actual, kept, "kernel", "policy", lineterm="", n=0))


def _has_ipv6() -> bool:
    return Path("/proc/sys/net/ipv6").exists()


def _actual(rules: Iterable[KernelRule]) -> Iterator[str]:
    """Yield our rules, and others' that come before them: those would decide first."""
    by_family: dict[IpVersion, list[KernelRule]] = {}
    for each in rules:
        by_family.setdefault(each.family, []).append(each)
    for family, listed in by_family.items():
        last = max((at for at, each in enumerate(listed) if each.ours), default=-1)
        for each in listed[: last + 1]:
            said = rule_text(each.rule) if each.rule else each.text
            if each.ours:
                yield f"IPv{family}: {said}"
            elif not (each.rule and each.rule.table == _LOCAL):
                yield f"IPv{family}: another program's, before ours: {said}"


def route(generation: Path) -> Result:
    """Put the routing of a staged generation on."""
    return run_router(_router(), "apply", str(generation))


def unroute() -> Result:
    """Take everything of ours off, and nothing else."""
    return run_router(_router(), "clear")


def _router() -> str:
    # Imported here: it brings the compiler along, and `status` only compares.
    from failshut.boot.artefacts import router  # noqa: PLC0415

    return router().text


def put_back() -> Result:
    """Put the routing of the armed generation back, after an arming that failed; none when nothing was armed."""
    current = ARMED_DIRECTORY / CURRENT
    return route(current) if is_sealed(current) and (current / f"{ROUTING_FILE}4").exists() else unroute()
