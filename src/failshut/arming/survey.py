"""What arming knows of the machine: the host's facts, and whether the lock is to have the rules for what is open for a time."""

from __future__ import annotations

from dataclasses import replace

from failshut.host.filter import programs
from failshut.host.network.probe import probe
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.timed import TIMED


def surveyed(policy: Policy) -> HostFacts:
    """Return the facts for an arming."""
    return replace(probe(policy), opened=has_room(initramfs=policy.initramfs))


def surveyed_as_armed(policy: Policy) -> HostFacts:
    """Return the facts for a lock that has these rules if the kernel's has them."""
    return replace(probe(policy), opened=programs.listed(TIMED) is not None)


def has_room(*, initramfs: bool) -> bool:
    """Whether an arming gives the lock these rules: while a network or an address is open.

    And where the initramfs loads the lock: else it would have to be written anew for the first `allow`, which takes a minute.
    """
    return initramfs or bool(programs.listed(TIMED))
