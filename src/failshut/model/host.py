"""What the compiler must know about the machine, gathered once by `host.probe` so that lowering stays pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from failshut.model.marks import OUTSIDE, PROBE, STAMP
from failshut.model.units import InterfaceAddress, InterfaceName, Mark


class WireGuardKind(StrEnum):
    """Who sends a tunnel's transport packets: it decides which owner they must have."""

    KERNEL = "kernel"
    USERSPACE = "userspace"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LiveTunnel:
    """A tunnel's interface as it runs now; when it does not, `kind` is who would send its packets on this machine."""

    kind: WireGuardKind
    fwmark: Mark | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    running: bool = False


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The machine: its underlay devices, its DHCP clients' users, its running tunnels.

    `marks` has those of tunnels that neither the policy nor a config gives one.

    `underlay` lists devices that can carry a frame off the machine, in the kernel's order. `dhcp_uids` always holds 0. `egress`
    says whether the kernel has the netdev egress hook (Linux 5.16 and later). `stamp` is the mark that joins the two layers;
    `outside` the mark of programs outside the tunnel, `probe` that of our own probes. `uplinked` are those of the underlay
    that are called as local bridges are. `opened` says whether anything may be open for a time: the lock then has the rules for it.
    """

    underlay: tuple[InterfaceName, ...] = ()
    dhcp_uids: tuple[int, ...] = (0,)
    tunnels: dict[InterfaceName, LiveTunnel] = field(default_factory=dict)
    marks: dict[InterfaceName, Mark] = field(default_factory=dict)
    egress: bool = True
    stamp: Mark = STAMP
    outside: Mark = OUTSIDE
    probe: Mark = PROBE
    uplinked: tuple[InterfaceName, ...] = ()
    opened: bool = False
