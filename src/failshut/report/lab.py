"""The lab as a picture, from the plan it is built by: machines, cables, tunnel, capture, attackers. Pure geometry for an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from failshut.drill.network.plan import Plan

# Who attacks from where; the numbers are those in the picture.
ATTACKERS = (
    ("on the machine, without privileges", "programs of any user, sockets bound to a device, raw and crafted packets, containers"),
    ("on the machine, with root", "other tools: other firewalls, lost routes and rules, re-arming under load, tunnels torn down"),
    ("on the local network", "rogue DHCP servers and router advertisements, neighbours, resolvers, strangers on the link"),
    ("at the gateway", "redirects, cables that flap, a new uplink, a server that can't be reached"),
    ("on the internet", "strangers who call, the VPN server's own address, peers that answer flows which must not live"),
)
_MOST_LETTERS = 34


@dataclass(frozen=True, slots=True)
class Box:
    """A machine: its place, its name, and lines below it."""

    x: float
    y: float
    width: float
    height: float
    title: str
    lines: tuple[str, ...] = ()
    kind: str = "host"
    # From its left edge to what is written in it.
    indent: float = 14


@dataclass(frozen=True, slots=True)
class Port:
    """A network device at a machine's edge, its name and its address."""

    x: float
    y: float
    name: str
    kind: str = "device"
    width: float = 74


@dataclass(frozen=True, slots=True)
class Line:
    """A cable as the `d` of a path; `capture` is where it is tapped."""

    path: str
    capture: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Badge:
    """Where an attacker stands; `word` says who, where there is room."""

    x: float
    y: float
    number: int
    word: str = ""


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole picture: `tunnel` and `cables` are paths."""

    name: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    ports: tuple[Port, ...]
    cables: tuple[Line, ...]
    tunnel: str
    tunnel_word: tuple[float, float, str]
    badges: tuple[Badge, ...]


def wide(plan: Plan) -> Drawing:
    """Return the picture from left to right, for a screen or paper."""
    rows = [150 + 62 * number for number in range(len(plan.cables))]
    low = rows[-1] + 60
    machine = Box(16, 34, 250, low - 4, "this machine", ("programs, wg-quick", "and the lock"), "machine")
    router = Box(452, 64, 176, low - 34, "router", ("captures every frame", "that leaves the machine"))
    lan = Box(420, low + 66, 240, 92, "local network", _lan_lines(plan))
    internet = Box(764, 34, 220, low - 4, "internet", ("every public address", str(plan.internet4), str(plan.internet6)))
    server = Box(780, 122, 190, _server_height(plan), "VPN server", _endpoints(plan), "server")
    ports = [Port(266, 104, str(plan.tunnel.interface), "tunnel")]
    ports += [Port(266, y, str(each.device)) for y, each in zip(rows, plan.cables, strict=True)]
    cables = [Line(f"M303 {y}H452", (430, y)) for y in rows]
    cables += [Line(f"M628 {rows[0]}H764"), Line(f"M540 {low + 30}V{low + 66}")]
    return Drawing(
        "wide",
        1000,
        low + 172,
        (machine, router, lan, internet, server),
        tuple(ports),
        tuple(cables),
        f"M303 104C360 104 350 {rows[0]} 400 {rows[0]}H780",
        (696, rows[0] - 14, "the tunnel"),
        (
            Badge(44, low - 34, 1, "any program"),
            Badge(44, low + 2, 2, "tools with root"),
            Badge(660, low + 66, 3),
            Badge(628, 64, 4),
            Badge(984, 34, 5),
        ),
    )


def tall(plan: Plan) -> Drawing:
    """Return the picture from top to bottom, for a phone."""
    step = 232 / max(len(plan.cables), 1)
    columns = [96 + step * (number + 0.5) for number in range(len(plan.cables))]
    columns = columns if len(columns) > 1 else [154.0]
    machine = Box(12, 30, 336, 118, "this machine", ("programs, wg-quick and the lock",), "machine")
    first = columns[0]
    router = Box(70, 250, 278, 76, "router", ("captures every frame", "that leaves the machine"), indent=first - 50)
    lan = Box(12, 366, 196, 96, "local network", _lan_lines(plan))
    internet = Box(12, 512, 336, 194, "internet", ("every public address", str(plan.internet4), str(plan.internet6)))
    server = Box(118, 604, 218, _server_height(plan), "VPN server", _endpoints(plan), "server")
    ports = [Port(56, 148, str(plan.tunnel.interface), "tunnel")]
    ports += [Port(x, 148, str(each.device)) for x, each in zip(columns, plan.cables, strict=True)]
    cables = [Line(f"M{x:g} 160V250", (x, 228)) for x in columns]
    cables += [Line("M240 326V512"), Line("M110 326V366")]
    return Drawing(
        "tall",
        360,
        716,
        (machine, router, lan, internet, server),
        tuple(ports),
        tuple(cables),
        f"M56 160C56 200 {first:g} 190 {first:g} 215V326C{first:g} 356 240 330 240 370V604",
        (288, 420, "the tunnel"),
        (
            Badge(36, 106, 1, "any program"),
            Badge(166, 106, 2, "tools with root"),
            Badge(208, 366, 3),
            Badge(348, 250, 4),
            Badge(348, 512, 5),
        ),
    )


def _endpoints(plan: Plan) -> tuple[str, ...]:
    return tuple(_short(str(each)) for each in plan.endpoints[:3])


def _server_height(plan: Plan) -> float:
    return 38 + 17 * len(_endpoints(plan))


def _lan_lines(plan: Plan) -> tuple[str, ...]:
    return (str(plan.cable.client4.network), str(plan.cable.client6.network), "resolver, printer, neighbour")


def _short(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"


def described(plan: Plan, tunnels: Sequence[str]) -> str:
    """Return the picture in words, for whoever can't see it."""
    devices = ", ".join(str(each.device) for each in plan.cables)
    return (
        f"This machine has the tunnel {', '.join(tunnels)} and a cable at {devices} to a router, which captures every frame there. "
        "Behind the router are a local network and the internet with the VPN server. The tunnel runs from this machine through the "
        "router to the VPN server. Attackers stand on the machine, on the local network, at the router and on the internet."
    )
