"""What is: armed or not, drift, tunnels, what was refused. Reads only; loads no library that `status` can do without."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from failshut.arming.state import ARMED_DIRECTORY, Record, load_record
from failshut.host import nft
from failshut.host.links import underlay_now
from failshut.host.wireguard import RunningTunnel, running_tunnels
from failshut.read.counts import Counts, counts


class State(StrEnum):
    """The lock, in one word."""

    ARMED = "armed"
    DISARMED = "disarmed"
    DRIFT = "drift"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Status:
    """The lock's state with what explains it. `drift` is a unified diff from the kernel to what was armed."""

    state: State
    record: Record | None = None
    drift: tuple[str, ...] = ()
    tunnels: tuple[tuple[str, RunningTunnel | None], ...] = ()
    counts: Counts = field(default_factory=Counts)
    # Underlay devices with the layer under IP; empty when the kernel has none.
    guarded: tuple[str, ...] = ()
    # Underlay devices that came after arming: IP is held on them, frames below it are not.
    unguarded: tuple[str, ...] = ()
    reason: str = ""
    listing: nft.Listing = field(default_factory=nft.Listing)


def read_status(directory: Path = ARMED_DIRECTORY) -> Status:
    """Ask the kernel and the record. Never raises: what can't be known is `State.UNKNOWN` with its reason."""
    try:
        listing = nft.listing()
    except nft.NftError as error:
        return Status(State.UNKNOWN, reason=_complaint(error))
    try:
        record, broken = load_record(directory), ""
    except (ValueError, OSError) as error:
        record, broken = None, f"{directory} can't be read: {error}"
    if not listing.tables and record is None and not broken:
        return Status(State.DISARMED)
    drift, guarded = _compared(listing, record)
    running = running_tunnels()
    unguarded = _unguarded(record, guarded)
    return Status(
        state=State.DRIFT if drift or broken or unguarded else State.ARMED,
        record=record,
        drift=drift,
        tunnels=tuple((name, running.get(name)) for name in (record.tunnels if record else ())),
        counts=counts(listing.json_texts),
        guarded=guarded,
        unguarded=unguarded,
        reason=broken or _why(listing, record, unguarded),
        listing=listing,
    )


def _compared(listing: nft.Listing, record: Record | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the drift and the guarded devices. While nft says the same words as after arming, nothing has changed."""
    if record and listing.texts == record.listing:
        return (), record.guarded
    # Imported here: the model and the emitter are a third of this verb's time, and needed only when something changed.
    from failshut.arming.compare import canonical_text, difference, guarded_devices  # noqa: PLC0415

    rules = listing.ruleset()
    return difference(canonical_text(rules), record.canonical if record else ""), guarded_devices(rules)


def _complaint(error: nft.NftError) -> str:
    if error.missing:
        return "nft is not installed"
    return "only root may read the kernel's rules" if error.permission else str(error)


def _unguarded(record: Record | None, guarded: tuple[str, ...]) -> tuple[str, ...]:
    """Return the devices that lack the layer under IP; none where the kernel has no such layer at all."""
    if record is None or not record.under_ip:
        return ()
    return tuple(each for each in underlay_now(record.tunnels) if each not in guarded)


def _why(listing: nft.Listing, record: Record | None, unguarded: tuple[str, ...]) -> str:
    if not listing.tables:
        return "the kernel does not hold the lock: another tool removed it, or the machine was booted without it"
    if record is None:
        return "the kernel holds a lock that was not armed from here (no record)"
    if unguarded:
        return f"frames below IP are not held on {', '.join(unguarded)}, which came or was renamed after arming"
    return ""
