"""What this machine is, as far as a server must know: how it is reached, who listens, what stands in the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from failshut.host.network.listed import listed
from failshut.host.network.surroundings import ssh_session
from failshut.host.network.sysctl import read_sysctl
from failshut.host.run import find, run
from failshut.host.service import systemd
from failshut.model.lock import LOCK_NAME
from failshut.model.policy import Service
from failshut.model.units import Address, Port, Prefix, Protocol
from failshut.server.firewall import NAME, PRIVATE
from failshut.server.places import INTERFACE

# Whether IPv6 is switched off: then no device takes an address of it.
NO_IPV6 = "net/ipv6/conf/all/disable_ipv6"
_SSH_SERVERS = ("sshd", "dropbear", "sshd-session")
_SSH_SOCKETS = ("ssh.socket", "sshd.socket")
_PROCESS = re.compile(r'"((?:[^"\\]|\\.)*)",pid=')
_LISTENED = re.compile(r"Listen=.*?(\d+) \(Stream\)")


@dataclass(frozen=True, slots=True)
class Listener:
    """A service of this machine that others can reach now; `program` is empty when it is the kernel's, or another's."""

    service: Service
    program: str

    def __str__(self) -> str:
        return f"{self.service}{f' ({self.program})' if self.program else ''}"


@dataclass(frozen=True, slots=True)
class Facts:
    """A moment of this machine. `uplinks` are the devices of the default routes, IPv4's and IPv6's; None: there is no route."""

    uplinks: dict[int, str | None]
    addresses: tuple[Address, ...] = ()
    networks: tuple[Prefix, ...] = ()
    ssh: tuple[Port, ...] = ()
    listeners: tuple[Listener, ...] = ()
    # Settings under /proc/sys as they are; None where this kernel has none.
    sysctls: dict[str, str | None] | None = None
    # Devices whose IPv6 default route came by a router's advertisement to the kernel.
    advertised: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    with_systemd: bool = False
    # The lock of `failshut arm` stands: nothing is forwarded on such a machine.
    armed: bool = False
    # Tables of other tools whose chains drop what comes in or is forwarded.
    others: tuple[str, ...] = ()

    @property
    def public(self) -> tuple[Address, ...]:
        """The addresses of the uplinks at which the Internet finds this machine, IPv4 first."""
        return tuple(each for each in self.addresses if not _is_private(each))

    @property
    def has_ipv6(self) -> bool:
        """Whether the Internet is reached by IPv6."""
        return self.uplinks[6] is not None and any(isinstance(each, IPv6Address) for each in self.public)


def gather() -> Facts:
    """Ask the machine; nothing is changed."""
    uplinks: dict[int, str | None] = {}
    advertised = []
    for family in (4, 6):
        routes = [each for each in listed(f"-{family}", "route", "show", "default") if each.get("dev") not in (None, INTERFACE)]
        best = min(routes, key=lambda each: each.get("metric", 0), default=None)
        uplinks[family] = str(best["dev"]) if best else None
        advertised += [str(each["dev"]) for each in routes if each.get("protocol") == "ra"]
    asked = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", NO_IPV6)
    return Facts(
        uplinks=uplinks,
        addresses=tuple(_addresses(uplinks)),
        networks=tuple(_networks()),
        ssh=_ssh_ports(),
        listeners=tuple(_listeners()),
        sysctls={each: read_sysctl(each) for each in (*asked, *(f"net/ipv6/conf/{each}/accept_ra" for each in advertised))},
        advertised=tuple(dict.fromkeys(advertised)),
        missing=tuple(each for each in ("nft", "wg", "wg-quick", "ip") if find(each) is None),
        with_systemd=systemd.is_running(),
        **_tables(),
    )


def _is_private(address: Address) -> bool:
    return any(address.version == each.version and address in each for each in PRIVATE)


def _addresses(uplinks: dict[int, str | None]) -> Iterator[Address]:
    for family, device in uplinks.items():
        for each in listed(f"-{family}", "addr", "show", "dev", device, "scope", "global") if device else ():
            for found in each.get("addr_info", ()):
                # A temporary address is another tomorrow.
                if "local" in found and not found.get("temporary") and not found.get("deprecated"):
                    yield ip_address(found["local"])


def _networks() -> Iterator[Prefix]:
    """Yield what is routed somewhere else than into our own tunnel."""
    for family in (4, 6):
        for each in listed(f"-{family}", "route", "show", "table", "main"):
            if each.get("dst", "default") != "default" and each.get("dev") != INTERFACE:
                yield ip_network(each["dst"])


def _ssh_ports() -> tuple[Port, ...]:
    """Return the ports at which an SSH server really listens, and the one that this session came in by."""
    found = {each.service.low for each in _listeners() if each.program in _SSH_SERVERS and each.service.protocol is Protocol.TCP}
    # Where systemd listens in its stead, the program is not there until somebody comes.
    for unit in _SSH_SOCKETS:
        shown = run(["systemctl", "show", unit, "--property=ActiveState,Listen"]) if systemd.is_running() else None
        if shown and shown.ok and "ActiveState=active" in shown.out:
            found |= {Port(int(each)) for each in _LISTENED.findall(shown.out)}
    session = ssh_session(())
    return tuple(sorted(found | ({session.port} if session else set())))


def _listeners() -> Iterator[Listener]:
    """Yield what listens beyond loopback, by `ss`."""
    seen = set()
    for line in run(["ss", "-Hltunp"]).out.splitlines():
        words = line.split()
        if len(words) < 5 or words[0] not in tuple(Protocol):
            continue
        host, _, port = words[4].rpartition(":")
        bare = host.partition("%")[0].strip("[]")
        if not port.isdigit() or (bare not in ("*", "") and ip_address(bare).is_loopback):
            continue
        program = _PROCESS.search(line)
        listener = Listener(Service(Protocol(words[0]), Port(int(port)), Port(int(port))), program[1] if program else "")
        if listener not in seen:
            seen.add(listener)
            yield listener


def _tables() -> dict[str, Any]:
    """Return whether the lock stands, and who else judges what comes in or is forwarded."""
    from failshut.model.ruleset import Hook, Verdict  # noqa: PLC0415 - the reader is not for `--help`
    from failshut.read.nft.text import read_text  # noqa: PLC0415

    rules = run(["nft", "-s", "list", "ruleset"])
    if not rules.ok:
        return {}
    tables = read_text(rules.out, "nft list ruleset").ruleset.tables
    shut = (
        f"{table.family} {table.name}"
        for table in tables
        for chain in table.chains
        if chain.base and chain.base.hook in (Hook.INPUT, Hook.FORWARD) and chain.base.policy is Verdict.DROP
    )
    own = (f"inet {NAME}", *(f"{family} {LOCK_NAME}" for family in ("inet", "arp", "netdev")))
    armed = any(each.name == LOCK_NAME for each in tables)
    return {"armed": armed, "others": tuple(each for each in dict.fromkeys(shut) if each not in own)}
