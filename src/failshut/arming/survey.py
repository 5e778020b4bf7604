"""What arming knows of the machine: the host's facts, and whether the lock is to have the rules for what is open for a time."""

from __future__ import annotations

from dataclasses import replace

from failshut.host.filter import programs
from failshut.host.network.probe import probe
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.timed import TIMED


def surveyed(policy: Policy) -> HostFacts:
    """Return the facts for an arming: with these rules while anything is open.

    And where the initramfs loads the lock: else it would have to be written anew for the first `allow`, which takes a minute.
    """
    return replace(probe(policy), opened=policy.initramfs or is_open())


def surveyed_as_armed(policy: Policy) -> HostFacts:
    """Return the facts for a lock that has these rules if the kernel's has them."""
    return replace(probe(policy), opened=programs.listed(TIMED) is not None)


def is_open() -> bool:
    """Whether a network or an address is open for a time."""
    return bool(programs.listed(TIMED))
