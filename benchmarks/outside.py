"""Prefixes that stay outside the tunnel: what 100,000 of them cost beside 10, to load and for each packet."""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

from failshut.emit.nft import emit
from failshut.emit.routing import emit_routes
from failshut.lower import lower
from failshut.lower.routing import lower_routing
from failshut.model.host import HostFacts
from failshut.model.policy import Outside, Policy, Tunnel
from failshut.model.units import Endpoint, InterfaceName, Port, Prefix

FEW, MANY = 10, 100_000
LOADS, ROUNDS = 3, 9
# They are drawn from 20.0.0.0 to 100.0.0.0, where the benchmark's namespace has no address.
_SEED, _LOWEST, _HIGHEST = 1, 20 << 24, 100 << 24
_ONE_OF_THEM = ip_network("198.51.100.0/24")


def report(cost: Callable[[str, int], float]) -> Iterator[str]:
    """Measure in the namespace that this runs in; `cost` returns the ns of system time of a packet to an address and port."""
    locks = {count: _lock(count) for count in (FEW, MANY)}
    yield f"prefixes outside the tunnel, seconds, median of {LOADS}"
    for count, (text, routes, compiled) in locks.items():
        loaded = statistics.median(_timed(["nft", "-f", "-"], text) for _ in range(LOADS))
        routed = statistics.median(_timed(["ip", "-force", "-batch", "-"], routes) for _ in range(LOADS))
        yield f"  {count:>7,}: compile {compiled:5.2f}   nft -f {loaded:5.2f}   ip -batch {routed:5.2f}"
        _clear()
    flows = {"to one of them": ("198.51.100.9", 9), "into the tunnel": ("10.99.0.1", 9), "blocked": ("203.0.113.9", 9)}
    measured: dict[tuple[int, str], list[float]] = {}
    # In turns, so that the machine's drift falls on both alike.
    for count in (FEW, MANY, FEW, MANY):
        _timed(["nft", "-f", "-"], locks[count][0])
        for _ in range(ROUNDS):
            for flow, place in flows.items():
                measured.setdefault((count, flow), []).append(cost(*place))
        _clear()
    yield f"system CPU per UDP packet, ns, with {FEW} and with {MANY:,} prefixes, median of {2 * ROUNDS}"
    for flow in flows:
        few, many = (statistics.median(measured[count, flow]) for count in (FEW, MANY))
        yield f"  {flow:<28} {few:7.0f} {many:7.0f} ({many / few:4.2f})"


def _lock(count: int) -> tuple[str, str, float]:
    drawn = random.Random(_SEED)  # noqa: S311 - the same prefixes each time
    found: set[Prefix] = {_ONE_OF_THEM}
    while len(found) < count:
        found.add(ip_network((drawn.randrange(_LOWEST, _HIGHEST) & ~0xFF, 24)))
    tunnel = Tunnel(InterfaceName("wg0"), (Endpoint(ip_address("203.0.113.10"), Port(51820)),))
    policy = Policy((tunnel,), outside=Outside(tuple(sorted(found))))
    facts = HostFacts(underlay=(InterfaceName("eth0"),))
    begin = time.perf_counter()
    text = emit(lower(policy, facts))
    routes = emit_routes(lower_routing(policy, facts))
    return text, routes, time.perf_counter() - begin


def _timed(argv: list[str], text: str) -> float:
    begin = time.perf_counter()
    subprocess.run(argv, input=text, text=True, capture_output=True, check=True)
    return time.perf_counter() - begin


def _clear() -> None:
    subprocess.run(["nft", "flush", "ruleset"], check=True)
