"""Arming what is armed once more, of failshut's own accord: with an endpoint's new address, with rules for what is open for a time.

What the user has written since and not armed is not armed by the way.
"""

from __future__ import annotations

from collections.abc import Mapping

from failshut.arming.arm import arm
from failshut.arming.armed.record import Record, load_pending, load_record
from failshut.arming.boot.generations import CURRENT
from failshut.arming.errors import NOT_BY_IPTABLES, USE_NFTABLES, ArmingError
from failshut.arming.kernel.load import kernel_listing
from failshut.arming.plan import make_plan
from failshut.arming.recording import digest_of
from failshut.boot.places import ARMED_DIRECTORY
from failshut.host.sources import load_policy
from failshut.model.backend import BackendName
from failshut.model.host import HostFacts
from failshut.model.pin import Pin
from failshut.model.policy import Policy
from failshut.model.progress import Report


class NotArmedError(Exception):
    """There is no armed lock that could be armed once more."""


def armed_policy() -> Policy:
    """Return the policy that is armed. Raises `NotArmedError`, and `ArmingError` when the file says something else by now."""
    if load_pending():
        raise ArmingError("an arming waits to be confirmed", help="`failshut confirm` keeps it, then try again")
    record = _record()
    policy = _loaded(record, {pin.host: pin for pin in record.pins})
    if digest_of(policy) != record.digest:
        raise ArmingError(f"{record.policy} is not what was armed", help="look with `failshut plan`, then `failshut arm`")
    return policy


def with_pins(pins: Mapping[str, Pin]) -> Policy:
    """Return the armed policy with other addresses for the names of its endpoints. Raises as `armed_policy` does."""
    policy = _loaded(_record(), pins)
    # Only now: what was read above may have been written since it was last asked for.
    armed_policy()
    return policy


def arm_again(policy: Policy, facts: HostFacts, report: Report) -> None:
    """Arm it in place. Raises `ArmingError`."""
    before = kernel_listing(policy.backend)
    plan = make_plan(policy, facts, before)
    # What was armed without a proof is not to be stuck as it is.
    arm(policy, plan, before, report=report, undecided_is_fine=_record().audit != "proved")


def _record() -> Record:
    try:
        record = load_record(ARMED_DIRECTORY / CURRENT)
    except PermissionError as error:
        raise ArmingError("only root may read what is armed", help="run it with sudo", permission=True) from error
    except (OSError, ValueError) as error:
        raise ArmingError(f"the record of what is armed can't be read: {error}", help="`failshut arm` writes it anew") from error
    if record is not None and record.backend == BackendName.IPTABLES:
        raise ArmingError(NOT_BY_IPTABLES, help=USE_NFTABLES)
    if record is None or not kernel_listing().tables:
        raise NotArmedError
    return record


def _loaded(record: Record, pins: Mapping[str, Pin]) -> Policy:
    checked = load_policy(record.policy, pins=pins)
    if checked.policy is None:
        raise ArmingError(f"{record.policy} has errors: {checked.errors[0].message}", help="`failshut check` shows them all")
    return checked.policy
