"""What a packet costs, and what a load takes, by the number of prefixes outside the tunnel and of tunnels."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

from benchmarks.figures import Figure, Unit, figure, ratios
from benchmarks.ground import TRANSPORT, TUNNEL, Flow, Ground, must
from failshut.emit.nft import emit
from failshut.lower import lower
from failshut.model.host import HostFacts
from failshut.model.policy import Outside, Policy, Tunnel
from failshut.model.units import Endpoint, InterfaceName, Mark, Port, Prefix

BY_PREFIXES, BY_TUNNELS = "By the number of prefixes outside", "By the number of tunnels"
PREFIXES = (10, 1_000, 100_000)
TUNNELS = (1, 2, 16, 256)
ROUNDS, LOADS = 60, 3
_OUTSIDE = Flow("198.51.100.9", 9)
_FACTS = HostFacts(underlay=(InterfaceName("eth0"),))
# Drawn from 20.0.0.0 to 100.0.0.0, where the namespaces have no address.
_SEED, _LOWEST, _HIGHEST = 1, 20 << 24, 100 << 24


def prefixes(count: int) -> tuple[Prefix, ...]:
    """Return as many prefixes, the same each time; the benchmark's own destination is one of them."""
    drawn = random.Random(_SEED)  # noqa: S311 - no secret
    found: dict[Prefix, None] = {ip_network("198.51.100.0/24"): None}
    while len(found) < count:
        found[ip_network((drawn.randrange(_LOWEST, _HIGHEST) & ~0xFF, 24))] = None
    return tuple(found)


def measure() -> Iterator[Figure]:
    """Yield the cost of a packet as a ratio to the smallest case, and the seconds of a load."""
    policies = {f"{count:,}": Policy((_tunnel(0),), outside=Outside(prefixes(count))) for count in PREFIXES}
    flows = {"to one of them": _OUTSIDE, "into the tunnel": TUNNEL, "transport": TRANSPORT}
    yield from _grown(BY_PREFIXES, policies, flows)
    many = {str(count): Policy(tuple(map(_tunnel, range(count)))) for count in TUNNELS}
    yield from _grown(BY_TUNNELS, many, {"into the tunnel": TUNNEL, "transport": TRANSPORT})


def _grown(table: str, policies: dict[str, Policy], flows: dict[str, Flow]) -> Iterator[Figure]:
    texts = {name: emit(lower(policy, _FACTS)) for name, policy in policies.items()}
    grounds = {}
    for name, text in texts.items():
        loads: list[float] = []
        grounds[name] = Ground(lambda text=text, loads=loads: _load(text, loads)).open(*flows.values())  # type: ignore[misc]
        yield figure(table, name, "load", loads, Unit.SECONDS)
    measured: dict[tuple[str, str], list[float]] = {}
    for turn in range(ROUNDS):
        for name in list(grounds)[:: -1 if turn % 2 else 1]:
            for flow, packets in flows.items():
                measured.setdefault((name, flow), []).append(grounds[name].cost(packets))
    smallest = next(iter(grounds))
    for name in grounds:
        for flow in flows:
            yield figure(table, name, flow, ratios(measured[name, flow], measured[smallest, flow]), Unit.RATIO)


def _load(text: str, loads: list[float]) -> None:
    for _ in range(LOADS):
        begin = time.perf_counter()
        must("nft", "-f", "-", stdin=text)
        loads.append(time.perf_counter() - begin)


def _tunnel(number: int) -> Tunnel:
    endpoint = Endpoint(ip_address("203.0.113.10") + number, Port(51820))
    own = ip_interface(f"10.99.{number}.2/32")
    return Tunnel(InterfaceName(f"wg{number}"), (endpoint,), fwmark=Mark(0xCA6C + number), addresses=(own,))
