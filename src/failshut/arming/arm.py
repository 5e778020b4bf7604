"""Arm: check, stage, load in one transaction, read back, then have the next boot load it. Any failure puts everything back."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from failshut import __version__
from failshut.arming import pending
from failshut.arming.armed.record import ChangedSysctl, EditedConfig, MarkedTunnel, Record, load_pending, load_record
from failshut.arming.backends import Listing
from failshut.arming.boot.generations import CURRENT, LAST_GOOD, is_sealed, pointed, publish, stage
from failshut.arming.boot.install import Boots, install, missing_directories, seals, tidy
from failshut.arming.errors import ArmingError, NotPutBackError
from failshut.arming.kernel.compare import guarded_devices
from failshut.arming.kernel.load import kernel_listing, load, text_beside
from failshut.arming.kernel.routing import lines_of, put_back, route
from failshut.arming.proof import must_be_proved
from failshut.arming.undo import make_directory, unwritable, write
from failshut.boot.places import ARMED_DIRECTORY, LOADER, RECORD_FILE
from failshut.emit.tunnel_marks import mark_of_ours, place_of
from failshut.emit.wgquick import TAG
from failshut.host.files import remove_tree, write_atomically
from failshut.host.filter import programs
from failshut.host.network.sysctl import set_sysctl
from failshut.host.run import run
from failshut.host.tunnels.managers import read_again
from failshut.host.tunnels.wireguard import set_fwmark
from failshut.lower.sets import known_programs
from failshut.model.backend import BackendName
from failshut.model.plan import MarkChange, Plan, SysctlChange
from failshut.model.policy import DEFAULT_FWMARK, Policy, Tunnel

Report = Callable[[str], None]
LOCK_PATH = Path("/run/failshut.lock")
_PRIVATE_DIRECTORY, _PRIVATE_FILE = 0o700, 0o600


@contextlib.contextmanager
def one_at_a_time(path: Path = LOCK_PATH, doing: str = "arming or disarming") -> Iterator[None]:
    """Refuse a second arm or disarm while one is at work. Raises `ArmingError` then, and without the privilege.

    Other work that must not run twice has a `path` of its own.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ArmingError(f"{path} can't be opened: {error.strerror}", help="run it with sudo", permission=True) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ArmingError(f"another failshut is {doing} right now", help="wait for it to end, then try again") from error
    else:
        yield
    finally:
        os.close(descriptor)


def arm(
    policy: Policy,
    plan: Plan,
    before: Listing,
    *,
    report: Report,
    confirm_within: int = 0,
    undecided_is_fine: bool = False,
    inputs: tuple[tuple[str, str], ...] = (),
    directory: Path = ARMED_DIRECTORY,
) -> Record:
    """Carry out `plan`, made from the kernel's state `before`. Returns the record of what is armed now. Raises `ArmingError`.

    What is loaded, now and by every boot, is proved first: a lock that leaks is refused, and nothing is changed.

    With `confirm_within` seconds the lock is on at once, but only for so long, and no boot knows of it, until `confirm`.
    """
    waiting = load_pending()
    if waiting and waiting.seconds_left() >= 0:
        raise ArmingError("an arming waits to be confirmed", help="`failshut confirm` keeps it; else it is undone by itself")
    report("proving that nothing leaks but what the policy allows")
    proved = must_be_proved(policy, plan, report, undecided_is_fine=undecided_is_fine)
    with contextlib.ExitStack() as undo:
        undo.push(_says_undone(report))
        if waiting:
            # Its timer has gone with a soft reboot; this arming takes its place.
            pending.forget()
        report(f"staging {len(plan.staged)} file(s)")
        *copies, staged = _stage(plan, directory, undo)
        if confirm_within:
            pending.schedule(plan, before, staged.with_name(staged.name.lstrip(".")), confirm_within, undo)
        _set_marks(plan.marks, undo)
        _set_sysctls(plan.sysctls, undo)
        edited = [each.path for each in plan.configs if each.is_change]
        # Also when it is undone: its manager has it in memory.
        undo.callback(read_again, edited)
        write((*plan.configs, *plan.shared), undo)
        read_again(edited)
        report("loading the lock, and reading it back")
        record = replace(
            record_of(policy, plan, load(plan, before, undo), directory),
            audit="proved" if proved else "undecided",
            inputs=inputs if proved else (),
        )
        _let_programs_out(policy, report)
        if plan.routes is not None:
            report("putting the routing on")
            undo.callback(put_back, directory)
            route(staged)
        generation = _keep(staged, copies, record, undo)
        if not confirm_within:
            boots = Boots(plan.with_systemd, plan.initramfs, plan.backend)
            install(directory, generation.name, report, undo, boots)
        else:
            pending.take_over(generation, undo)
        undo.pop_all()
    if not confirm_within:
        tidy(directory)
    return record


def _says_undone(report: Report) -> Callable[[object, BaseException | None, object], None]:
    def say(_kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, NotPutBackError):
            report("everything was put back as it was")

    return say


def confirm(report: Report, directory: Path = ARMED_DIRECTORY) -> Record:
    """Keep the arming that waits: take its timer back, and have the next boot load it. Raises `ArmingError`."""
    waiting = pending.waiting()
    generation = directory / waiting.generation
    record = load_record(generation)
    if record is None or not is_sealed(generation):
        raise ArmingError(f"{generation} is damaged", help="wait until it is undone, then arm again")
    with contextlib.ExitStack() as undo:
        boots = Boots(record.with_systemd, record.in_initramfs, BackendName(record.backend))
        install(directory, generation.name, report, undo, boots)
        _must_hold(record)
        undo.pop_all()
    pending.forget()
    tidy(directory)
    return record


def _must_hold(record: Record) -> None:
    """Load the lock again if another program has put something else into the kernel since. Raises `ArmingError`."""
    if text_beside(kernel_listing(record.backend).ruleset(), record) == record.canonical:
        return
    run(["/bin/sh", LOADER])
    if text_beside(kernel_listing(record.backend).ruleset(), record) == record.canonical:
        return
    raise ArmingError("the kernel does not hold what was armed", help="wait until it is undone, then arm again")


def _stage(plan: Plan, directory: Path, undo: contextlib.ExitStack) -> tuple[Path, ...]:
    """Return the directory with the files of a boot: the current one when it is whole and the same, else a new one.

    The first lock is its own last good one: a second copy, which stands before it, for the day on which the first is damaged.
    """
    current = pointed(directory, CURRENT)
    if current and not any(each.is_change for each in plan.staged) and is_sealed(directory / current):
        return (directory / current,)
    make_directory(directory, undo, mode=_PRIVATE_DIRECTORY)
    files = {Path(each.path).name: each.after for each in plan.staged}
    copies: tuple[Path, ...] = ()
    try:
        if not is_sealed(directory / LAST_GOOD) and not is_sealed(directory / CURRENT):
            copies = (publish(stage(directory, files)),)
            undo.callback(remove_tree, *copies)
        staged = stage(directory, files)
    except OSError as error:
        raise unwritable(directory, error) from error
    undo.callback(remove_tree, staged)
    return (*copies, staged)


def _let_programs_out(policy: Policy, report: Report) -> None:
    """Tell the kernel the control groups that go beside the tunnel: what an earlier policy let out is in no set any more."""
    groups = known_programs(policy) if policy.backend is BackendName.NFTABLES else ()
    told = programs.replace(groups) if groups else None
    if told and not told.ok:
        # They stay inside: nothing is open that should not be.
        report(f"no program goes beside the tunnel yet: {told.complaint}")


def _keep(staged: Path, copies: Iterable[Path], record: Record, undo: contextlib.ExitStack) -> Path:
    """Write the record beside the staged files and their copies, and give them their number."""
    try:
        for each in (*copies, staged):
            write_atomically(each / RECORD_FILE, record.to_json(), mode=_PRIVATE_FILE)
        if not staged.name.startswith("."):
            return staged
        generation = publish(staged)
    except OSError as error:
        raise unwritable(staged, error) from error
    undo.callback(remove_tree, generation)
    return generation


def record_of(policy: Policy, plan: Plan, loaded: Listing, directory: Path) -> Record:
    """Return the record of a lock that is loaded, or will be by a boot."""
    try:
        earlier = load_record(directory / CURRENT)
    except ValueError:
        # A broken record is replaced; what it knew of edited configs is still in their tagged lines.
        earlier = None
    marks = {str(each.interface): MarkedTunnel(each.interface, each.before) for each in plan.marks}
    sysctls = {each.path: ChangedSysctl(each.path, each.before) for each in plan.sysctls}
    configs = {each.path: each for each in _tagged(policy)}
    missing = missing_directories() if plan.with_systemd else ()
    if earlier:
        # Re-arming must not forget what the first arming changed, nor take it for the user's own.
        configs = {each.path: each for each in earlier.configs} | configs
        marks |= {each.interface: each for each in earlier.marks}
        sysctls |= {each.path: each for each in earlier.sysctls}
    return Record(
        canonical=plan.canonical,
        listing=loaded.texts,
        policy=str(Path(policy.path).absolute()),
        armed_at=int(time.time()),
        version=__version__,
        tunnels=tuple(str(each.interface) for each in policy.tunnels),
        routed=tuple(str(each.interface) for each in policy.tunnels if each.is_routed),
        beside=tuple(str(each) for each in policy.beside),
        bridges=policy.forward.bridges,
        guarded=guarded_devices(plan.wanted),
        under_ip=plan.under_ip,
        with_systemd=plan.with_systemd,
        in_initramfs=plan.initramfs,
        configs=tuple(configs.values()),
        marks=tuple(marks.values()),
        sysctls=tuple(sysctls.values()),
        boot=tuple(seals(plan.boot).items()),
        routing=lines_of(plan.routes) if plan.routes else (),
        notes=plan.notes,
        pins=tuple(replace(each, since=each.since or int(time.time())) for each in policy.pins),
        digest=digest_of(_as_written(policy, plan)),
        serial=policy.serial,
        signed_by=policy.signed_by,
        backend=plan.backend,
        shared=_shared(plan, earlier),
        directories=tuple(dict.fromkeys((*(earlier.directories if earlier else ()), *missing))),
    )


def _shared(plan: Plan, earlier: Record | None) -> tuple[tuple[str, bool], ...]:
    """Return the user's files with rules of ours, and whether each was there before the first arming."""
    known = dict(earlier.shared) if earlier else {}
    return tuple({**{each.path: each.before is not None for each in plan.shared}, **known}.items())


def digest_of(policy: Policy) -> str:
    """Return a checksum of what a policy says; where the names of its endpoints lead to is part of it, since when is not."""
    tunnels = tuple(replace(each, config=each.config and str(Path(each.config).absolute())) for each in policy.tunnels)
    return hashlib.sha256(repr(replace(policy, tunnels=tunnels, pins=(), path="")).encode()).hexdigest()


def _as_written(policy: Policy, plan: Plan) -> Policy:
    """Return the policy as it will be read from now on: with the marks that arming wrote into the tunnels' configs."""
    marks = {each.path: mark_of_ours(each.after) for each in plan.configs}

    def written(tunnel: Tunnel) -> Tunnel:
        mark = marks.get(_marked_file(tunnel))
        return replace(tunnel, fwmark=mark, fwmark_in_config=True, default_mark=DEFAULT_FWMARK) if mark else tunnel

    return replace(policy, tunnels=tuple(map(written, policy.tunnels)))


def _tagged(policy: Policy) -> Iterator[EditedConfig]:
    """Yield the files that hold our line, whenever it was written: an arming that was cut off has left no record of it."""
    for tunnel in policy.tunnels:
        path = _marked_file(tunnel)
        if path and Path(path).exists() and TAG in Path(path).read_text(encoding="utf-8", errors="replace"):
            yield EditedConfig(str(tunnel.interface), path)


def _marked_file(tunnel: Tunnel) -> str:
    """Return where a tunnel gets its mark from; "" for one without a config."""
    return str(Path(place_of(tunnel.kind, tunnel.config)).absolute()) if tunnel.config else ""


def _set_marks(changes: tuple[MarkChange, ...], undo: contextlib.ExitStack) -> None:
    for change in changes:
        result = set_fwmark(change.interface, change.after)
        if not result.ok:
            raise ArmingError(f"{change.interface} does not take the mark {change.after}: {result.complaint}")
        undo.callback(set_fwmark, change.interface, change.before)


def _set_sysctls(changes: tuple[SysctlChange, ...], undo: contextlib.ExitStack) -> None:
    for change in changes:
        if set_sysctl(change.path, change.after):
            undo.callback(set_sysctl, change.path, change.before)
