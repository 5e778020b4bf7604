"""What can be open for a time, and how the kernel's sets hold it. Pure, and light: `status` asks it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import assert_never

from failshut.model.timed import PORTAL_PROGRAMS, TIMED_LAN, TIMED_TO, TIMED_USER, gate_name
from failshut.model.units import Port, Prefix, Protocol


@dataclass(frozen=True, slots=True)
class Named:
    """An allowance that the policy holds back until it is asked for."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class LanNetwork:
    """A network on the link."""

    prefix: Prefix

    def __str__(self) -> str:
        return f"lan {self.prefix}"


@dataclass(frozen=True, slots=True)
class To:
    """A site: addresses, a port of one protocol, and the user who may reach it; None is everyone."""

    prefix: Prefix
    protocol: Protocol
    port: Port
    uid: int | None = None

    def __str__(self) -> str:
        single = self.prefix.prefixlen == self.prefix.max_prefixlen
        host = str(self.prefix.network_address if single else self.prefix)
        where = f"[{host}]" if self.prefix.version == 6 else host
        return f"to {where}:{int(self.port)}/{self.protocol}" + (f" for user {self.uid}" if self.uid is not None else "")


@dataclass(frozen=True, slots=True)
class SignIn:
    """A browser's sign-in at a captive portal: `failshut portal` opens it, and ends it; the kernel does where that was killed."""

    def __str__(self) -> str:
        return "the sign-in at a portal"


# What `failshut allow` opens.
Opening = Named | LanNetwork | To


@dataclass(frozen=True, slots=True)
class Open:
    """Something that is open, and the whole seconds until the kernel ends it."""

    what: Opening | SignIn
    seconds: int


def opened(json_texts: Iterable[str]) -> Iterator[Open]:
    """Read what is open out of `nft --json list table`."""
    seen: set[Opening | SignIn] = set()
    for text in json_texts:
        for entry in json.loads(text)["nftables"]:
            named = entry.get("set", {})
            for raw in named.get("elem", ()):
                body = raw.get("elem", {}) if isinstance(raw, dict) else {}
                what = opening_of(named["name"], body.get("val")) if "expires" in body else None
                # A gate holds an element for each family.
                if what is not None and what not in seen:
                    seen.add(what)
                    yield Open(what, int(body["expires"]))


def element(opening: Opening) -> tuple[tuple[str, str], ...]:
    """Return the sets that an opening goes into, each with its element as nft takes it."""
    match opening:
        case Named(name=name):
            return ((gate_name(name), "ipv4"), (gate_name(name), "ipv6"))
        case LanNetwork(prefix=wanted):
            return ((f"{TIMED_LAN}{wanted.version}", _text(wanted)),)
        case To(prefix=wanted, protocol=protocol, port=port, uid=None):
            return ((f"{TIMED_TO}{wanted.version}", f"{_text(wanted)} . {protocol} . {int(port)}"),)
        case To(prefix=wanted, protocol=protocol, port=port, uid=uid):
            return ((f"{TIMED_USER}{wanted.version}", f"{_text(wanted)} . {protocol} . {int(port)} . {uid}"),)
        case _:
            assert_never(opening)


def opening_of(set_name: str, value: object) -> Opening | SignIn | None:
    """Return what an element of one of these sets opens, from nft's JSON; None for what is none of them."""
    if set_name.startswith(gate_name("")):
        return Named(set_name.removeprefix(gate_name("")))
    if set_name == PORTAL_PROGRAMS:
        return SignIn()
    kind = set_name.rstrip("46")
    match value:
        case {"concat": [where, protocol, port, *user]} if kind in (TIMED_TO, TIMED_USER):
            return To(_prefix(where), Protocol(protocol), Port(port), user[0] if user else None)
        case _ if kind == TIMED_LAN:
            return LanNetwork(_prefix(value))
    return None


def _prefix(raw: object) -> Prefix:
    match raw:
        case {"prefix": {"addr": address, "len": length}}:
            return ip_network(f"{address}/{length}")
    return ip_network(str(raw))


def _text(wanted: Prefix) -> str:
    return str(wanted.network_address) if wanted.prefixlen == wanted.max_prefixlen else str(wanted)
