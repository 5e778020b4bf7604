"""What a user says of a time-boxed allowance: a site, a network, a time. Pure; a mistake is a `RefusedError` with its remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import assert_never

from failshut.allowances.errors import RefusedError
from failshut.allowances.openings import LanNetwork, Named, Opening, To
from failshut.config.addresses import is_local, is_wider, prefix
from failshut.config.checks.view import WIDEST
from failshut.config.mistake import Mistake
from failshut.lower.rules import DNS_PORTS
from failshut.model.exits import Exit
from failshut.model.policy import Policy
from failshut.model.timed import LONGEST
from failshut.model.units import Port, Prefix, Protocol

_SITE = re.compile(r"(?P<host>\[[0-9A-Fa-f:./]+\]|[0-9./]+):(?P<port>[0-9]{1,5})/(?P<protocol>tcp|udp)")


def seconds(text: str) -> int:
    """Return the seconds of `90s`, `10m`, `1h30m`. Raises `RefusedError` for none at all."""
    parts = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip().lower())
    if not text.strip() or parts is None:
        raise _usage(f"'{text}' is no time", "such as 90s, 10m or 1h30m")
    total = sum(int(number or 0) * unit for number, unit in zip(parts.groups(), (86400, 3600, 60, 1), strict=True))
    if total == 0:
        raise _usage("an allowance for no time at all", "such as --for 10m; `failshut revoke` ends one")
    return total


def site(text: str, uid: int | None) -> To:
    """Return the site of `192.0.2.7:443/tcp` or `[2001:db8::7]:443/tcp`, or of a network in the address's place."""
    found = _SITE.fullmatch(text.strip().lower())
    if not found:
        remedy = "such as 192.0.2.7:443/tcp or [2001:db8::7]:53/udp; an address, because a name could be anyone's"
        raise _usage(f"'{text}' is no site", remedy)
    try:
        port = Port(int(found["port"]))
    except ValueError as error:
        raise _usage(str(error), "such as 192.0.2.7:443/tcp") from None
    where = network(found["host"].strip("[]"))
    if uid is not None and where.prefixlen != where.max_prefixlen:
        raise _usage(f"{where} is a network, and --user goes with one address", "open each address, or leave --user out")
    return To(where, Protocol(found["protocol"]), port, uid)


def network(text: str) -> Prefix:
    """Return a network's prefix, or an address as that of one machine."""
    try:
        return prefix(text)
    except Mistake as mistake:
        raise _usage(mistake.message, mistake.help) from None


def objections(opening: Opening, time: int, policy: Policy) -> Iterator[str]:
    """Yield what makes an opening wider than it looks: each must be known to who opens it."""
    if time > LONGEST:
        yield f"{time // 86400} days is no allowance for a time: name it in the policy"
    match opening:
        case Named():
            return
        case LanNetwork(prefix=wanted):
            if is_wider(wanted, *WIDEST):
                yield f"{wanted} is no local network: everything in it would leave in the clear"
            elif not is_local(wanted):
                yield f"{wanted} is public: a network that hands out such addresses draws that traffic out of the tunnel"
        case To(prefix=wanted, port=port):
            if is_wider(wanted, *WIDEST):
                yield f"{wanted} is half the Internet: port {int(port)} of all of it would leave in the clear"
            if port in DNS_PORTS:
                yield f"port {int(port)} is for name look-ups: whoever listens there learns every name"
        case _:
            assert_never(opening)
    yield from _over_endpoints(opening.prefix, policy)


def _over_endpoints(wanted: Prefix, policy: Policy) -> Iterator[str]:
    for tunnel in policy.tunnels:
        for endpoint in tunnel.endpoints:
            if endpoint.address in wanted:
                yield f"{wanted} covers {tunnel.interface}'s endpoint {endpoint} ({policy.path}): any program could talk to it"
        for own in tunnel.addresses:
            if own.ip in wanted:
                yield f"{wanted} covers {tunnel.interface}'s own address {own.ip} ({policy.path})"


def _usage(message: str, remedy: str) -> RefusedError:
    return RefusedError(message, help=remedy, exit_code=Exit.USAGE)
