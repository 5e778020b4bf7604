"""The kernel's rules while they change: load, read back, and the way back to what was there."""

from __future__ import annotations

import contextlib

from failshut.arming.compare import (
    canonical_text,
    difference,
    guarded_devices,
    stale_chains,
    without_devices,
    without_later,
)
from failshut.arming.errors import ArmingError, from_nft
from failshut.arming.state import Record
from failshut.host import nft
from failshut.host.links import all_links
from failshut.model.plan import Plan
from failshut.model.ruleset import Ruleset


def kernel_listing() -> nft.Listing:
    """Return what the kernel holds under our name. Raises `ArmingError`."""
    try:
        return nft.listing()
    except nft.NftError as error:
        raise from_nft(error, "the kernel's rules can't be read") from error


def load(plan: Plan, before: nft.Listing, undo: contextlib.ExitStack) -> nft.Listing:
    """Load the plan's transaction and return what the kernel holds now. Raises `ArmingError` when that is not what was planned."""
    # Registered before the load: Ctrl-C while nft runs may come after the kernel's commit.
    undo.callback(_put_back, before)
    result = nft.load(plan.text)
    if not result.ok:
        raise from_nft(nft.NftError(result), "the lock could not be loaded")
    listing = kernel_listing()
    changed = difference(canonical_text(listing.ruleset()), plan.canonical)
    if changed:
        shown = "\n".join(changed[:20])
        raise ArmingError(f"the kernel does not hold what was loaded:\n{shown}", help="please report this with `nft --version`")
    return listing


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


def way_back(now: Ruleset, before: nft.Listing) -> str:
    """Return the transaction that brings `before` back from `now`, also when `now` was never loaded."""
    earlier = before.ruleset()
    known = [table for table in now.tables if earlier.table(table.family, table.name)]
    new = [table for table in now.tables if table not in known]
    lines = [
        *(f"flush table {table.family} {table.name}" for table in known),
        # Declared first, so that it can be deleted whether it is there or not.
        *(
            f"add chain {table.family} {table.name} {chain.name}\ndelete chain {table.family} {table.name} {chain.name}"
            for table, chain in stale_chains(Ruleset(tuple(known)), earlier)
        ),
        *(f"add table {table.family} {table.name}\ndelete table {table.family} {table.name}" for table in new),
    ]
    return "\n".join([*lines, *before.texts]) + "\n"


def _put_back(before: nft.Listing) -> None:
    now = nft.listing()
    if now.texts != before.texts:
        nft.load(way_back(now.ruleset(), before))
