"""A template and its answers → the files. Pure: keys and chance are handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from failshut.model.units import Address, InterfaceAddress
from failshut.templates.catalogue import Template, folder

# Of a network's addresses, the first is the server's.
GATEWAY = 1


@dataclass(frozen=True, slots=True)
class Keys:
    """A pair of keys, and the key that a peer shares with its server."""

    private: str = field(repr=False)
    public: str
    preshared: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Source:
    """What a template may not make up itself: keys by whom they are for, and five bytes of chance for a network of its own."""

    keys: Callable[[str], Keys]
    chance: bytes


@dataclass(frozen=True, slots=True)
class Machine:
    """A peer as the files see it. `outer` are the keys of its outer tunnel, in a double hop."""

    name: str
    number: int
    pair: Keys
    addresses: tuple[Address, ...]
    outer: Keys | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file to be written. `qr` says that a telephone may read it."""

    path: str
    text: str = field(repr=False)
    qr: bool = False

    @property
    def owner(self) -> str:
        """The machine that it belongs to."""
        return self.path.partition("/")[0]


def host(network: IPv4Network | IPv6Network, number: int) -> Address:
    """Return an address of a network by its number. Raises ValueError when there are no more."""
    found = network.network_address + number
    # The last of IPv4 is everybody's.
    if found not in network or (network.version == 4 and found == network.broadcast_address):
        raise ValueError(f"{network} has no address number {number}")
    return found


def gateway(network: IPv4Network | IPv6Network) -> InterfaceAddress:
    """Return the server's address in a network of peers."""
    return ip_interface(f"{host(network, GATEWAY)}/{network.prefixlen}")


def own_network6(chance: bytes) -> IPv6Network:
    """Return a network of one's own (RFC 4193): fd, 40 bits of chance, subnet 0."""
    return IPv6Network(((0xFD << 120) | (int.from_bytes(chance[:5], "big") << 80), 64))


def make(template: Template, answers: Mapping[str, Any], source: Source) -> tuple[File, ...]:
    """Return every file of a template. `answers` are typed, by the questions' variables. Raises ValueError when they don't fit."""
    values = dict(answers)
    if "network6" in values:
        values["network6"] = values["network6"] or own_network6(source.chance)
    for each in template.named:
        if taken := {*template.keys, "server"} & set(values[each]):
            raise ValueError(f"{taken.pop()} is the name of a folder of this template's own: call the device something else")
        values[each] = tuple(_machine(name, at, values, template, source) for at, name in enumerate(values[each], GATEWAY + 1))
    values |= {each: source.keys(each) for each in template.keys}
    return tuple(_files(template, values))


def _machine(name: str, number: int, values: Mapping[str, Any], template: Template, source: Source) -> Machine:
    networks = [values[each] for each in ("network", "network6") if each in values]
    outer = source.keys(f"{name}, outer tunnel") if template.pairs > 1 else None
    return Machine(name, number, source.keys(name), tuple(host(each, number) for each in networks), outer)


def _files(template: Template, values: Mapping[str, Any]) -> Iterator[File]:
    for made in template.files:
        for each in values[made.each] if made.each else (None,):
            given = {**values, **({"each": each} if each else {})}
            path = _environment().from_string(made.path).render(given)
            yield File(path, render(f"{template.name}/{made.source}", **given), made.qr)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_text),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - a config is no page; every value in it is typed
    )
    made.filters["host"] = host
    made.filters["gateway"] = gateway
    made.filters["single"] = ip_network
    made.filters["commas"] = lambda values: ", ".join(str(each) for each in values)
    made.filters["toml"] = _toml_array
    return made


def _text(name: str) -> str | None:
    place = folder()
    for part in name.split("/"):
        place = place.joinpath(part)
    return place.read_text(encoding="utf-8") if place.is_file() else None


def render(name: str, **values: Any) -> str:
    """Return what a file of `ready/` makes of the values."""
    return _environment().get_template(name).render(**values)


def _toml_array(values: tuple[object, ...]) -> str:
    return "[" + ", ".join(f'"{each}"' for each in values) + "]"
