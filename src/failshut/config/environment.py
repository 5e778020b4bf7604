"""Reads a policy from `FAILSHUT_*` variables, for containers: the text of failshut.toml, or every mistake by its variable."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from failshut.config import addresses, values
from failshut.config.mistake import Mistake, shown
from failshut.model.finding import Code, Finding, Place
from failshut.model.policy import Service
from failshut.model.units import Prefix

Value = TypeVar("Value")
PREFIX = "FAILSHUT_"
# Each variable that is part of the policy, and what it says; docs/guide/container.md has them in this order.
VARIABLES = {
    "FAILSHUT_TUNNEL": "the tunnel's interface [wg0]; its config is /etc/wireguard/NAME.conf",
    "FAILSHUT_LAN": "networks on the link that may be reached beside the tunnel",
    "FAILSHUT_INBOUND": "ports that others may connect to",
    "FAILSHUT_INBOUND_FROM": "the networks that may connect to them [FAILSHUT_LAN]",
}
# Where the entrypoint puts its own copy of what is mounted at /etc/wireguard: arming writes the tunnel's mark into it.
CONFIGS = "/run/wireguard"


@dataclass(frozen=True, slots=True)
class _Reader:
    """The variables, and the mistakes found in them so far."""

    variables: Mapping[str, str]
    findings: list[Finding]

    def one(self, variable: str, read: Callable[[object], Value], default: str) -> Value | None:
        """Return a variable's value, or None for one that can't be used."""
        return next(iter(self._read(variable, [self.variables.get(variable) or default], read)), None)

    def several(self, variable: str, read: Callable[[object], Value]) -> list[Value]:
        """Return the values that commas or spaces part."""
        return list(self._read(variable, self.variables.get(variable, "").replace(",", " ").split(), read))

    def _read(self, variable: str, words: list[str], read: Callable[[object], Value]) -> Iterator[Value]:
        for word in words:
            try:
                yield read(word)
            except Mistake as mistake:
                self.findings.append(Finding(mistake.code, mistake.message, Place(variable), mistake.help))


def policy_text(environment: Mapping[str, str]) -> str | list[Finding]:
    """Return the policy that the variables say; without any, the tunnel of /etc/wireguard/wg0.conf and nothing beside it."""
    variables = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    reader = _Reader(variables, [_unknown(name) for name in sorted(variables) if name not in VARIABLES])
    tunnel = reader.one("FAILSHUT_TUNNEL", values.tunnel_name, "wg0")
    lan = reader.several("FAILSHUT_LAN", addresses.prefix)
    services = reader.several("FAILSHUT_INBOUND", _single_port)
    sources = reader.several("FAILSHUT_INBOUND_FROM", addresses.prefix) or lan
    if services and not sources and not reader.findings:
        remedy = "name the networks in FAILSHUT_INBOUND_FROM or FAILSHUT_LAN, such as 192.168.1.0/24"
        reader.findings.append(Finding(Code.OPEN_SERVICE, "it does not say who may connect", Place("FAILSHUT_INBOUND"), remedy))
    if reader.findings:
        return reader.findings
    return "\n".join(_lines(str(tunnel), lan, services, sources))


def _lines(tunnel: str, lan: list[Prefix], services: list[Service], sources: list[Prefix]) -> Iterator[str]:
    # A container's address is given to it from outside.
    yield f'[tunnel."{tunnel}"]\nconfig = "{CONFIGS}/{tunnel}.conf"\n\n[allow]\ndhcp = false\n'
    if lan:
        yield f"[allow.lan]\nprefixes = {_array(lan)}\n"
    for each in dict.fromkeys(services):
        yield f'[[allow.inbound]]\nname = "{each.protocol}-{int(each.low)}"\nprotocol = "{each.protocol}"\nport = {int(each.low)}'
        yield f"from = {_array(sources)}\n"


def _array(prefixes: list[Prefix]) -> str:
    return "[" + ", ".join(f'"{each}"' for each in prefixes) + "]"


def _single_port(value: object) -> Service:
    """Return a service of one port: an allowance for others has no range."""
    service = values.service(value)
    if service.low != service.high:
        raise Mistake(Code.BAD_VALUE, f"{shown(value)} is a range", "name each port: tcp/8080, tcp/8081")
    return service


def _unknown(name: str) -> Finding:
    close = difflib.get_close_matches(name, VARIABLES, n=1, cutoff=0.8)
    remedy = f"did you mean {close[0]}?" if close else f"known are {', '.join(VARIABLES)}"
    return Finding(Code.UNKNOWN_KEY, "no such variable", Place(name), remedy)
