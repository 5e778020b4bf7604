"""The kernel's rules while they change: load, read back, and the way back to what was there."""

from __future__ import annotations

import contextlib

from failshut.arming.armed.record import Record
from failshut.arming.backends import Backend, Listing, backend
from failshut.arming.errors import ArmingError, NotPutBackError
from failshut.arming.kernel.compare import (
    canonical_text,
    difference,
    guarded_devices,
    without_devices,
    without_later,
)
from failshut.host.network.links import all_links
from failshut.host.run import NoAnswerError
from failshut.model.backend import BackendName
from failshut.model.plan import Plan
from failshut.model.ruleset import Ruleset


def kernel_listing(name: str = BackendName.NFTABLES) -> Listing:
    """Return what the kernel holds of ours, by a backend. Raises `ArmingError`."""
    return backend(name).listing()


def load(plan: Plan, before: Listing, undo: contextlib.ExitStack) -> Listing:
    """Load the plan and return what the kernel holds now. Raises `ArmingError` when that is not what was planned."""
    tool = backend(plan.backend)
    # Registered before the load: Ctrl-C while the tool runs may come after the kernel's commit.
    undo.callback(_put_back, tool, before)
    tool.load(plan)
    listing = tool.listing()
    changed = difference(canonical_text(listing.ruleset()), plan.canonical)
    if changed:
        shown = "\n".join(changed[:20])
        raise ArmingError(f"the kernel does not hold what was loaded:\n{shown}", help="please report this with the tool's version")
    return listing


def _put_back(tool: Backend, before: Listing) -> None:
    try:
        tool.put_back(before)
    except (ArmingError, NoAnswerError) as error:
        remedy = "`failshut status` shows what is on; `failshut arm` again, when the machine has room"
        raise NotPutBackError(f"what the kernel held before can't be brought back: {error}", help=remedy) from error


def text_beside(rules: Ruleset, record: Record | None) -> str:
    """Return the kernel's canonical text to lay beside a record: without the layer under IP of devices that came after arming."""
    actual = canonical_text(rules)
    later = [each for each in guarded_devices(rules) if each not in record.guarded] if record else []
    if record is None or not later:
        return actual
    there = {each["ifname"] for each in all_links()}
    # What is left of one that has gone again holds nobody.
    actual = without_devices(actual, [each for each in later if there and each not in there])
    return without_later(actual, record.canonical, [each for each in later if each in there])
