"""What `ip -j -N rule` says, as the model has it: ours to compare, and wg-quick's that stand in their way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from failshut.model.routing import ALL_BITS, OUR_PROTOCOL, IpVersion, RoutingRule, Table
from failshut.model.units import InterfaceName, Mark, Port, Protocol

# RTN_UNREACHABLE, which `-N` says as a number.
_UNREACHABLE = ("unreachable", "7")
# Keys that say nothing more, at these values.
_PLAIN = {"priority", "src", "table", "protocol", "action", "not"}
# Said since Linux 6.15, at the value that says nothing.
_MASKS = {"sport_mask": "0xffff", "dport_mask": "0xffff"}
_KNOWN = {"dst", "dstlen", "fwmark", "fwmask", "ipproto", "sport", "dport", "uid_start", "uid_end", "iif", "iif_detached"}
_SUPPRESS = {"suppress_prefixlen", "suppress_ifgroup"}


@dataclass(frozen=True, slots=True)
class KernelRule:
    """A rule as the kernel has it; `rule` is None when it says more than the model can."""

    family: IpVersion
    preference: int
    ours: bool
    rule: RoutingRule | None
    text: str = ""


def parse_rules(text: str, family: IpVersion) -> tuple[KernelRule, ...]:
    """Read `ip -j -N rule show` of one family, in the kernel's order. Raises ValueError for what is no such listing."""
    # A device's name may hold control characters, which ip writes as they are.
    raw = json.loads(text or "[]", strict=False)
    if not isinstance(raw, list):
        raise TypeError("ip lists no rules")
    return tuple(_kernel_rule(each, family) for each in raw)


def _kernel_rule(raw: dict[str, Any], family: IpVersion) -> KernelRule:
    ours = str(raw.get("protocol", "")) == str(OUR_PROTOCOL)
    try:
        rule = _rule(raw, family)
    except (ValueError, KeyError, TypeError):
        rule = None
    return KernelRule(family, int(raw.get("priority", 0)), ours, rule, json.dumps(raw))


def _rule(raw: dict[str, Any], family: IpVersion) -> RoutingRule | None:
    raw = {key: value for key, value in raw.items() if (key, value) not in _MASKS.items()}
    if set(raw) - _PLAIN - _KNOWN - _SUPPRESS or raw.get("src", "all") != "all" or raw.get("action", "7") not in _UNREACHABLE:
        return None
    if raw.get("uid_start") != raw.get("uid_end"):
        return None
    bits = 32 if family is IpVersion.IPV4 else 128
    return RoutingRule(
        family,
        table=None if "action" in raw else Table(int(raw["table"])),
        to=ip_network(f"{raw['dst']}/{raw.get('dstlen', bits)}") if "dst" in raw else None,
        mark=Mark(int(str(raw["fwmark"]), 0)) if "fwmark" in raw else None,
        mask=Mark(int(str(raw.get("fwmask", int(ALL_BITS))), 0)),
        inverted="not" in raw,
        protocol=_protocol(raw.get("ipproto")),
        source_port=Port(int(raw["sport"])) if "sport" in raw else None,
        port=Port(int(raw["dport"])) if "dport" in raw else None,
        uid=raw.get("uid_start"),
        arrived_by=InterfaceName(raw["iif"]) if "iif" in raw else None,
        suppress_prefix=raw.get("suppress_prefixlen"),
        suppress_group=int(raw["suppress_ifgroup"]) if "suppress_ifgroup" in raw else None,
    )


def _protocol(word: Any) -> Protocol | None:
    if word is None:
        return None
    # By number where /etc/protocols is missing, or with -N.
    return next(
        (each for each in Protocol if str(word) in (str(each), f"ipproto-{each.number}", str(each.number))), None
    ) or Protocol(word)
