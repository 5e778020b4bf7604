"""What the lock counted: the named counters and the dynamic sets of `nft -j list table`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from failshut.model.units import PROTOCOL_NAMES

LOCAL_SETS = ("blocked4", "blocked6")


@dataclass(frozen=True, slots=True)
class Blocked:
    """One line of "what would have leaked": where a local program wanted to go, and how often. `uid` is the program's user."""

    destination: str
    protocol: str
    port: int
    uid: int
    packets: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Packets refused since the first arming: by local programs, for routed clients, and below IP; and their bytes."""

    local: int = 0
    forwarded: int = 0
    under_ip: int = 0
    local_bytes: int = 0
    forwarded_bytes: int = 0
    under_ip_bytes: int = 0
    # Largest first, as far as the sets remember (an hour, 4,096 destinations a family).
    blocked: tuple[Blocked, ...] = ()
    # True when a set has no room left: further destinations are counted, but not listed.
    is_full: bool = False

    @property
    def total(self) -> int:
        """All refused packets."""
        return self.local + self.forwarded + self.under_ip


def counts(json_texts: tuple[str, ...]) -> Counts:
    """Read the counters and sets of the listings of the lock's tables."""
    objects = [each for text in json_texts for each in json.loads(text)["nftables"]]
    named = {each["counter"]["name"]: each["counter"] for each in objects if "counter" in each}
    packets, size = ({name: int(each[what]) for name, each in named.items()} for what in ("packets", "bytes"))
    listed = [each["set"] for each in objects if "set" in each and each["set"]["name"] in LOCAL_SETS]
    blocked = [line for each in listed for line in _lines(each)]
    return Counts(
        local=packets.get("blocked", 0),
        forwarded=packets.get("forwarded", 0),
        under_ip=packets.get("under-ip", 0),
        local_bytes=size.get("blocked", 0),
        forwarded_bytes=size.get("forwarded", 0),
        under_ip_bytes=size.get("under-ip", 0),
        blocked=tuple(sorted(blocked, key=lambda line: -line.packets)),
        is_full=any(len(each.get("elem", ())) >= each.get("size", math.inf) for each in listed),
    )


def _lines(entry: dict[str, Any]) -> Iterator[Blocked]:
    for element in entry.get("elem", ()):
        body = element.get("elem", {})
        match body:
            case {"val": {"concat": [destination, protocol, port, uid]}, "counter": {"packets": packets}}:
                name = PROTOCOL_NAMES.get(protocol, str(protocol))
                yield Blocked(str(destination), name, int(port), int(uid), int(packets))
            case _:
                continue
