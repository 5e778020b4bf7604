"""What a scenario is. Pure data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from failshut.drill.rules.source import RuleSource

if TYPE_CHECKING:
    from failshut.drill.lab import Lab


class Kind(StrEnum):
    """An attack must put nothing on the cable; a works must still work."""

    ATTACK = "attack"
    WORKS = "works"


class Need(StrEnum):
    """What a scenario needs of the machine; where it is missing the scenario is skipped, and says so."""

    REAL_ROOT = "another user id (run the drill as root)"
    UDHCPC = "udhcpc (package udhcpc)"
    DNSMASQ = "dnsmasq (package dnsmasq-base)"
    IPTABLES = "iptables-restore (package iptables)"
    TWO_FAMILIES = "an endpoint over IPv4 and one over IPv6, on the same port"
    INBOUND = "an [[allow.inbound]] service in the policy"
    SECOND_DEVICE = "a second underlay device"
    MACVLAN = "macvlan devices in the kernel"
    FLOWTABLE = "flow tables in the kernel"
    TAILSCALE = "Tailscale in the policy ([allow.tailscale])"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One attack, or one thing that must still work.

    `before` runs in the clear, ahead of the lock. `tunnel` and `traffic` say whether the tunnel and the background traffic are
    up when `attack` begins. `control` names the rules under which the same attack must be seen to leak; None needs `because`.
    `guide_leaks` says that research/kernel.md measured the guide's rules to leak here. `window` is in seconds; None: the run's.
    `slow` runs are begun first. `limit` says why the lock is known not to hold this (docs/known-limits.md): a leak is then
    reported, and is no failure.
    """

    name: str
    title: str
    covers: tuple[int, ...]
    attack: Callable[[Lab], None]
    kind: Kind = Kind.ATTACK
    before: Callable[[Lab], None] | None = None
    tunnel: bool = True
    traffic: bool = True
    control: RuleSource | None = RuleSource.NONE
    because: str = ""
    guide_leaks: bool = False
    needs: tuple[Need, ...] = ()
    window: float | None = None
    setup: Callable[[Lab], None] | None = None
    limit: str = ""
    slow: bool = False
