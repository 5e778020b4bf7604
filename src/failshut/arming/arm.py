"""Arm: check, stage, load in one transaction, read back. Any failure puts everything back as it was, and says so."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from failshut import __version__
from failshut.arming.compare import canonical_text, difference, guarded_devices, stale_chains
from failshut.arming.errors import ArmingError, from_nft
from failshut.arming.state import ARMED_DIRECTORY, RECORD_FILE, EditedConfig, MarkedTunnel, Record, load_record
from failshut.host import nft
from failshut.host.files import remove_tree, sync_directory, write_atomically
from failshut.host.wireguard import set_fwmark
from failshut.model.plan import FileChange, MarkChange, Plan
from failshut.model.policy import Policy
from failshut.model.ruleset import Ruleset

Report = Callable[[str], None]
_LOCK_PATH = Path("/run/failshut.lock")


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Refuse a second arm or disarm while one is at work. Raises `ArmingError` then, and without the privilege."""
    try:
        descriptor = os.open(_LOCK_PATH, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ArmingError(f"{_LOCK_PATH} can't be opened: {error.strerror}", help="run it with sudo", permission=True) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ArmingError("another failshut is arming or disarming right now", help="wait for it to end, then try again") from error
    else:
        yield
    finally:
        os.close(descriptor)


def kernel_listing() -> nft.Listing:
    """Return what the kernel holds under our name. Raises `ArmingError`."""
    try:
        return nft.listing()
    except nft.NftError as error:
        raise from_nft(error, "the kernel's rules can't be read") from error


def arm(policy: Policy, plan: Plan, before: nft.Listing, *, report: Report, directory: Path = ARMED_DIRECTORY) -> Record:
    """Carry out `plan`, made from the kernel's state `before`. Returns the record of what is armed now. Raises `ArmingError`."""
    with contextlib.ExitStack() as undo:
        undo.callback(report, "everything was put back as it was")
        _set_marks(plan.marks, undo)
        report(f"staging {sum(each.is_change for each in plan.files)} file(s)")
        _write(plan.files, undo)
        report("loading the lock in one transaction")
        _load(plan, before, undo)
        report("reading it back from the kernel")
        record = _record(policy, plan, _verify(plan), directory)
        _write((_record_change(record, directory),), undo)
        undo.pop_all()
    return record


def _record(policy: Policy, plan: Plan, loaded: nft.Listing, directory: Path) -> Record:
    try:
        earlier = load_record(directory)
    except ValueError:
        # A broken record is replaced; what it knew of edited configs is still in their tagged lines.
        earlier = None
    configs = {each.path: EditedConfig(_interface_of(policy, each), each.path) for each in plan.configs if each.is_change}
    marks = {str(each.interface): MarkedTunnel(each.interface, each.before) for each in plan.marks}
    if earlier:
        # Re-arming must not forget what the first arming changed.
        configs = {each.path: each for each in earlier.configs} | configs
        marks = marks | {each.interface: each for each in earlier.marks}
    return Record(
        canonical=canonical_text(plan.wanted),
        listing=loaded.texts,
        policy=str(Path(policy.path).absolute()),
        armed_at=int(time.time()),
        version=__version__,
        tunnels=tuple(str(each.interface) for each in policy.tunnels),
        guarded=guarded_devices(plan.wanted),
        under_ip=plan.under_ip,
        configs=tuple(configs.values()),
        marks=tuple(marks.values()),
    )


def _interface_of(policy: Policy, change: FileChange) -> str:
    paths = {str(Path(tunnel.config).absolute()): str(tunnel.interface) for tunnel in policy.tunnels if tunnel.config}
    return paths[change.path]


def _record_change(record: Record, directory: Path) -> FileChange:
    path = directory / RECORD_FILE
    before = path.read_text(encoding="utf-8") if path.exists() else None
    return FileChange(str(path), before, record.to_json())


def _set_marks(changes: tuple[MarkChange, ...], undo: contextlib.ExitStack) -> None:
    for change in changes:
        result = set_fwmark(change.interface, change.after)
        if not result.ok:
            raise ArmingError(f"{change.interface} does not take the mark {change.after}: {result.complaint}")
        undo.callback(set_fwmark, change.interface, change.before)


def _write(files: tuple[FileChange, ...], undo: contextlib.ExitStack) -> None:
    for change in files:
        if not change.is_change:
            continue
        path = Path(change.path)
        if not path.parent.exists():
            undo.callback(remove_tree, path.parent)
        # Registered before the write: a failure between the rename and the flush must be undone too.
        undo.callback(_put_back, change)
        try:
            write_atomically(path, change.after)
        except OSError as error:
            raise ArmingError(
                f"{path} can't be written: {error.strerror}",
                help="make room, or mount it writable, then run it again",
                permission=isinstance(error, PermissionError),
            ) from error


def _put_back(change: FileChange) -> None:
    path = Path(change.path)
    if change.before is not None:
        write_atomically(path, change.before)
    elif path.exists():
        path.unlink()
        sync_directory(path.parent)


def _load(plan: Plan, before: nft.Listing, undo: contextlib.ExitStack) -> None:
    # Registered before the load: Ctrl-C while nft runs may come after the kernel's commit.
    undo.callback(_put_kernel_back, before)
    result = nft.load(plan.text)
    if not result.ok:
        raise from_nft(nft.NftError(result), "the lock could not be loaded")


def _put_kernel_back(before: nft.Listing) -> None:
    now = nft.listing()
    if now.texts == before.texts:
        return
    known = [table for table in now.ruleset().tables if before.ruleset().table(table.family, table.name)]
    new = [table for table in now.ruleset().tables if table not in known]
    stale = stale_chains(Ruleset(tuple(known)), before.ruleset())
    lines = [
        *(f"flush table {table.family} {table.name}" for table in known),
        *(f"delete chain {table.family} {table.name} {chain.name}" for table, chain in stale),
        *(f"delete table {table.family} {table.name}" for table in new),
    ]
    nft.load("\n".join([*lines, *before.texts]) + "\n")


def _verify(plan: Plan) -> nft.Listing:
    listing = kernel_listing()
    changed = difference(canonical_text(listing.ruleset()), canonical_text(plan.wanted))
    if changed:
        shown = "\n".join(changed[:20])
        raise ArmingError(f"the kernel does not hold what was loaded:\n{shown}", help="please report this with `nft --version`")
    return listing
