"""What is: armed or not, drift, tunnels, what was refused. Reads only; loads no library that `status` can do without."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from failshut.arming.compare import canonical_text, difference
from failshut.arming.state import ARMED_DIRECTORY, Record, load_record
from failshut.host import nft
from failshut.host.probe import underlay_now
from failshut.host.wireguard import RunningTunnel, running_tunnels
from failshut.model.ruleset import Family, Ruleset
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
    rules: Ruleset = field(default_factory=Ruleset)


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
    if not listing.ruleset.tables and record is None and not broken:
        return Status(State.DISARMED)
    drift = difference(canonical_text(listing.ruleset), record.canonical if record else "")
    running = running_tunnels()
    guarded = _guarded(listing.ruleset)
    unguarded = _unguarded(record, guarded)
    return Status(
        state=State.DRIFT if drift or broken or unguarded else State.ARMED,
        record=record,
        drift=drift,
        tunnels=tuple((name, running.get(name)) for name in (record.tunnels if record else ())),
        counts=counts(listing.json_texts),
        guarded=guarded,
        unguarded=unguarded,
        reason=broken or _why(listing.ruleset, record, unguarded),
        rules=listing.ruleset,
    )


def _complaint(error: nft.NftError) -> str:
    if error.missing:
        return "nft is not installed"
    return "only root may read the kernel's rules" if error.permission else str(error)


def _unguarded(record: Record | None, guarded: tuple[str, ...]) -> tuple[str, ...]:
    """Return the devices that lack the layer under IP; none where the kernel has no such layer at all."""
    if record is None or (record.underlay and not guarded):
        return ()
    return tuple(each for each in underlay_now(record.tunnels) if each not in guarded)


def _why(rules: Ruleset, record: Record | None, unguarded: tuple[str, ...]) -> str:
    if not rules.tables:
        return "the kernel does not hold the lock: another tool removed it, or the machine was booted without it"
    if record is None:
        return "the kernel holds a lock that was not armed from here (no record)"
    if unguarded:
        return f"frames below IP are not held on {', '.join(unguarded)}, which came or was renamed after arming"
    return ""


def _guarded(rules: Ruleset) -> tuple[str, ...]:
    return tuple(
        chain.base.device
        for table in rules.tables
        if table.family is Family.NETDEV
        for chain in table.chains
        if chain.base and chain.base.device
    )
