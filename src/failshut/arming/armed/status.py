"""What is: armed or not, drift, tunnels, what was refused. Reads only; loads no library that `status` can do without."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from failshut.arming.armed.record import Record, load_pending, load_record, readable_record
from failshut.arming.boot.generations import CURRENT, LAST_GOOD, checksum, is_sealed
from failshut.arming.errors import ArmingError
from failshut.boot.places import ARMED_DIRECTORY, BOOT_UNIT_PATH, ENABLED_PATH, GENERATOR, LOADER, MONITOR_LOCK, ROUTING_LOCK
from failshut.host import locks
from failshut.host.filter import nft
from failshut.host.network.links import all_links, impostors, is_up, traffic, underlay_devices
from failshut.host.tunnels.wireguard import running_tunnels
from failshut.model.backend import BackendName
from failshut.model.lock import LockState
from failshut.model.running import RunningTunnel
from failshut.read.counts import Counts, counts

if TYPE_CHECKING:
    from failshut.arming.backends import Listing

# In seconds; what undoes an arming may be at work.
_PATIENCE = 10
# How often to look at the routing at most while it changes, and how long to wait in between, in seconds.
_LOOKS, _LOOK = 20, 0.05
_MISROUTED = "the routing rules are not the armed ones: nothing leaks, but the tunnel may be starved"
_OVERDUE = "nobody confirmed, and nothing undid it: the timer is gone. `failshut confirm` keeps the lock, `disarm` takes it off"


class Held(StrEnum):
    """Which lock the kernel holds: after a boot it may be another than the current one."""

    CURRENT = "current"
    LAST_GOOD = "last-good"
    EVERYTHING = "drop-everything"
    OTHER = "other"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Boot:
    """What the next boot will do. `damaged` are links to a generation that is not whole; `missing` what else is gone or changed."""

    loaded_by: str
    damaged: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether the next boot loads the current lock."""
        return not self.damaged and not self.missing


@dataclass(frozen=True, slots=True)
class Status:
    """The lock's state with what explains it. `drift` is a unified diff from the kernel to what was armed."""

    state: LockState
    record: Record | None = None
    drift: tuple[str, ...] = ()
    held: Held = Held.NONE
    boot: Boot | None = None
    # Seconds until an arming that nobody has confirmed is undone; None when none waits.
    reverts_in: int | None = None
    # Whether the tables that no other program can flush stand behind the lock.
    guarded_by: bool = False
    # Whether a monitor runs. The lock is the same without.
    watched: bool = False
    # A unified diff of the routing rules: they open nothing, but the tunnel may be starved without them.
    routing: tuple[str, ...] = ()
    tunnels: tuple[tuple[str, RunningTunnel | None], ...] = ()
    counts: Counts = field(default_factory=Counts)
    # Underlay devices with the layer under IP; empty when the kernel has none.
    guarded: tuple[str, ...] = ()
    # Underlay devices that came after arming: IP is held on them, frames below it are not.
    unguarded: tuple[str, ...] = ()
    reason: str = ""
    listing: Listing = field(default_factory=nft.Listing)


def read_status(*, counted: bool = True) -> Status:
    """Ask the kernel and the record. Never raises: what can't be known is `LockState.UNKNOWN` with its reason.

    What was refused, and what is open, is asked for only where it is `counted`.
    """
    pending = load_pending()
    record, which, broken = _recorded(pending.generation if pending else CURRENT)
    try:
        listing = _listing(record, counted=counted)
    except nft.NftError as error:
        return Status(LockState.UNKNOWN, reason=_complaint(error))
    except ArmingError as error:
        return Status(LockState.UNKNOWN, reason=str(error))
    if not listing.tables and record is None and not broken and not _is_pointed():
        return Status(LockState.DISARMED)
    drift, guarded = _compared(listing, record)
    held = _held(listing, drift, which)
    running = running_tunnels()
    links = all_links() if record else []
    unguarded = _unguarded(record, guarded, links)
    boot = None if pending else _boot(record)
    overdue = _OVERDUE if pending and pending.seconds_left() < -_PATIENCE else ""
    routing = _routing(record)
    problems = [
        broken,
        overdue,
        _misnamed(record, links),
        _why(held, record, unguarded),
        _boot_problem(boot),
        _MISROUTED if routing else "",
    ]
    return Status(
        state=LockState.DRIFT if drift or any(problems) else LockState.ARMED,
        record=record,
        drift=drift,
        routing=routing,
        held=held,
        boot=boot,
        reverts_in=max(pending.seconds_left(), 0) if pending else None,
        guarded_by=listing.guarded,
        watched=locks.is_held(MONITOR_LOCK),
        tunnels=tuple((name, running.get(name) or _others(name)) for name in (record.tunnels if record else ())),
        counts=_counts(listing, record),
        guarded=guarded,
        unguarded=unguarded,
        reason=next((each for each in problems if each), ""),
        listing=listing,
    )


def _listing(record: Record | None, *, counted: bool) -> Listing:
    """Return what the kernel holds, by the tool that the lock was armed with. Raises what that tool raises."""
    if record is None or record.backend == BackendName.NFTABLES:
        return nft.listing(counted=counted)
    from failshut.arming.backends import backend  # noqa: PLC0415 - as in `_compared`

    return backend(record.backend).listing()


def _counts(listing: Listing, record: Record | None) -> Counts:
    if record is None or record.backend == BackendName.NFTABLES:
        return counts(listing.json_texts)
    from failshut.host.filter.iptables import refused  # noqa: PLC0415 - as in `_compared`

    return refused()


def _others(name: str) -> RunningTunnel | None:
    """Return a tunnel that WireGuard knows nothing of, by its device; None while that is not there, or not up."""
    return RunningTunnel(name, 0, None, (), traffic(name)) if is_up(name) else None


def _is_pointed() -> bool:
    """Whether any boot would load something: an arming that was cut off leaves files that nothing points at."""
    return any((ARMED_DIRECTORY / link).is_symlink() for link in (CURRENT, LAST_GOOD))


def _recorded(wanted: str) -> tuple[Record | None, Held, str]:
    """Return the record of what is armed, else the last good one's; which it is; and what is wrong with the wanted one."""
    try:
        if record := load_record(ARMED_DIRECTORY / wanted):
            return record, Held.CURRENT, ""
        broken = ""
    except (ValueError, OSError) as error:
        broken = f"the record in {ARMED_DIRECTORY / wanted} can't be read: {error}"
    try:
        return load_record(ARMED_DIRECTORY / LAST_GOOD), Held.LAST_GOOD, broken
    except (ValueError, OSError):
        return None, Held.OTHER, broken


def _held(listing: Listing, drift: tuple[str, ...], which: Held) -> Held:
    if not listing.tables:
        return Held.NONE
    if not drift:
        return which
    # Imported here, as in `_compared`: only a lock that is not the current one pays for it.
    from failshut.arming.kernel.compare import canonical_text  # noqa: PLC0415
    from failshut.arming.kernel.load import text_beside  # noqa: PLC0415
    from failshut.lower.iptables.shut import everything as everything_by_iptables  # noqa: PLC0415
    from failshut.lower.shut import everything  # noqa: PLC0415
    from failshut.model.ruleset import Family, Ruleset  # noqa: PLC0415

    rules = listing.ruleset()
    base = Ruleset(tuple(table for table in rules.tables if table.family is not Family.NETDEV))
    if canonical_text(base) in (canonical_text(everything()), canonical_text(everything_by_iptables())):
        return Held.EVERYTHING
    earlier = readable_record(ARMED_DIRECTORY / LAST_GOOD)
    actual = text_beside(rules, earlier)
    return Held.LAST_GOOD if earlier and actual == _expected(earlier, actual) else Held.OTHER


def _boot(record: Record | None) -> Boot:
    """Look at the files that the next boot needs, as its loader will."""
    damaged = tuple(link for link in (CURRENT, LAST_GOOD) if not is_sealed(ARMED_DIRECTORY / link))
    changed = tuple(path for path, digest in (record.boot if record else ()) if _checksum(Path(path)) != digest)
    if record and not record.with_systemd:
        return Boot("nothing", damaged, changed)
    missing = tuple(path for path in (LOADER, GENERATOR, BOOT_UNIT_PATH, ENABLED_PATH) if not Path(path).exists())
    return Boot("systemd", damaged, tuple(dict.fromkeys((*missing, *changed))))


def _checksum(path: Path) -> str:
    try:
        return checksum(path.read_bytes())
    except OSError:
        return ""


def _boot_problem(boot: Boot | None) -> str:
    if boot is None or boot.is_sound:
        return ""
    if boot.missing:
        return f"the next boot may not load the lock: {', '.join(boot.missing)} is gone or changed"
    return f"the sealed files for the next boot are damaged: {', '.join(boot.damaged)}"


def _compared(listing: Listing, record: Record | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the drift and the guarded devices. While nft says the same words as after arming, nothing has changed."""
    if record and listing.texts == record.listing:
        return (), record.guarded
    # Imported here: the model and the emitter are a third of this verb's time, and needed only when something changed.
    from failshut.arming.kernel.compare import difference, guarded_devices  # noqa: PLC0415
    from failshut.arming.kernel.load import text_beside  # noqa: PLC0415 - as above

    rules = listing.ruleset()
    actual = text_beside(rules, record)
    return difference(actual, _expected(record, actual) if record else ""), guarded_devices(rules)


def _routing(record: Record | None) -> tuple[str, ...]:
    if record is None or not record.routing:
        return ()
    # Imported here: a lock that is off does not pay for it.
    from failshut.arming.kernel.routing import kernel_rules, routing_difference  # noqa: PLC0415

    changed: tuple[str, ...] = ()
    # What is seen while somebody puts the rules on is half of them: a difference counts that is there with nobody at work.
    for _ in range(_LOOKS):
        at_work = locks.is_held(ROUTING_LOCK)
        rules = kernel_rules()
        seen, changed = changed, () if rules is None else routing_difference(rules, record.routing)
        if not changed or (changed == seen and not at_work):
            break
        time.sleep(_LOOK)
    return changed


def _expected(record: Record, actual: str) -> str:
    """Return what the kernel should hold of a record: the chain of a device that is away may be away with it."""
    from failshut.arming.kernel.compare import without_devices  # noqa: PLC0415 - as above

    there = {each["ifname"] for each in all_links()}
    away = [each for each in record.guarded if there and each not in there and f'device "{each}"' not in actual]
    return without_devices(record.canonical, away)


def _complaint(error: nft.NftError) -> str:
    if error.missing:
        return "nft is not installed"
    return "only root may read the kernel's rules" if error.permission else str(error)


def _unguarded(record: Record | None, guarded: tuple[str, ...], links: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return the devices that lack the layer under IP; none where the kernel has no such layer at all."""
    if record is None or not record.under_ip:
        return ()
    there = underlay_devices(links, (*record.tunnels, *record.beside), record.bridges, record.routed)
    return tuple(each for each in there if each not in guarded)


def _misnamed(record: Record | None, links: list[dict[str, Any]]) -> str:
    """Say which device has only the name of a tunnel: the choke point lets everything out by it."""
    names = impostors(links, record.routed) if record else ()
    if not names:
        return ""
    return f"{', '.join(names)} is a card or modem with a tunnel's name: rename it, for everything may leave by that name"


def _why(held: Held, record: Record | None, unguarded: tuple[str, ...]) -> str:
    match held:
        case Held.NONE:
            return "the kernel does not hold the lock: another tool removed it, or the machine was booted without it"
        case Held.EVERYTHING:
            return "nothing leaves this machine: the boot found no whole lock and loaded the one that drops everything"
        case Held.LAST_GOOD:
            return "the kernel holds the last good lock, the one before the current: a boot could not load that"
        case Held.CURRENT | Held.OTHER:
            pass
        case _:
            assert_never(held)
    if record is None:
        return "the kernel holds a lock that was not armed from here (no record)"
    if unguarded:
        return f"frames below IP are not held on {', '.join(unguarded)}, which came or was renamed after arming"
    return ""
