"""Arm: check, stage, load in one transaction, read back, then have the next boot load it. Any failure puts everything back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from failshut.arming import pending
from failshut.arming.armed.record import Record, load_pending, load_record
from failshut.arming.backends import Listing
from failshut.arming.boot.generations import CURRENT, LAST_GOOD, is_sealed, pointed, publish, stage
from failshut.arming.boot.install import Boots, install, tidy
from failshut.arming.errors import ArmingError, NotPutBackError
from failshut.arming.kernel.load import kernel_listing, load, text_beside
from failshut.arming.kernel.routing import put_back, route
from failshut.arming.proof import must_be_proved
from failshut.arming.recording import record_of
from failshut.arming.undo import make_directory, unwritable, write
from failshut.boot.places import ARMED_DIRECTORY, LOADER, RECORD_FILE
from failshut.host.files import PRIVATE_DIRECTORY, PRIVATE_FILE, remove_tree, write_atomically
from failshut.host.filter import programs
from failshut.host.network.sysctl import set_sysctl
from failshut.host.run import run
from failshut.host.tunnels.managers import read_again
from failshut.host.tunnels.wireguard import set_fwmark
from failshut.lower.sets import known_programs
from failshut.model.backend import BackendName
from failshut.model.plan import MarkChange, Plan, SysctlChange
from failshut.model.policy import Policy
from failshut.model.progress import Report


def arm(
    policy: Policy,
    plan: Plan,
    before: Listing,
    *,
    report: Report,
    confirm_within: int = 0,
    undecided_is_fine: bool = False,
    inputs: tuple[tuple[str, str], ...] = (),
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
        *copies, staged = _stage(plan, undo)
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
            record_of(policy, plan, load(plan, before, undo), ARMED_DIRECTORY),
            audit="proved" if proved else "undecided",
            inputs=inputs if proved else (),
        )
        _let_programs_out(policy, report)
        if plan.routes is not None:
            # Undone after the links are: it puts on what they lead to then.
            undo.callback(put_back)
        generation = _keep(staged, copies, record, undo)
        if not confirm_within:
            boots = Boots(plan.with_systemd, plan.initramfs, plan.backend)
            install(generation.name, report, undo, boots)
        else:
            pending.take_over(generation, undo)
        if plan.routes is not None:
            # Once the links lead to it: until then, whoever keeps the routing puts the earlier one on.
            report("putting the routing on")
            route(generation)
        undo.pop_all()
    if not confirm_within:
        tidy(ARMED_DIRECTORY)
    return record


def _says_undone(report: Report) -> Callable[[object, BaseException | None, object], None]:
    def say(_kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, NotPutBackError):
            report("everything was put back as it was")

    return say


def confirm(report: Report) -> Record:
    """Keep the arming that waits: take its timer back, and have the next boot load it. Raises `ArmingError`."""
    waiting = pending.waiting()
    generation = ARMED_DIRECTORY / waiting.generation
    record = load_record(generation)
    if record is None or not is_sealed(generation):
        raise ArmingError(f"{generation} is damaged", help="wait until it is undone, then arm again")
    with contextlib.ExitStack() as undo:
        boots = Boots(record.with_systemd, record.in_initramfs, BackendName(record.backend))
        install(generation.name, report, undo, boots)
        _must_hold(record)
        undo.pop_all()
    pending.forget()
    tidy(ARMED_DIRECTORY)
    return record


def _must_hold(record: Record) -> None:
    """Load the lock again if another program has put something else into the kernel since. Raises `ArmingError`."""
    if text_beside(kernel_listing(record.backend).ruleset(), record) == record.canonical:
        return
    run(["/bin/sh", LOADER])
    if text_beside(kernel_listing(record.backend).ruleset(), record) == record.canonical:
        return
    raise ArmingError("the kernel does not hold what was armed", help="wait until it is undone, then arm again")


def _stage(plan: Plan, undo: contextlib.ExitStack) -> tuple[Path, ...]:
    """Return the directory with the files of a boot: the current one when it is whole and the same, else a new one.

    The first lock is its own last good one: a second copy, which stands before it, for the day on which the first is damaged.
    """
    current = pointed(ARMED_DIRECTORY, CURRENT)
    if current and not any(each.is_change for each in plan.staged) and is_sealed(ARMED_DIRECTORY / current):
        return (ARMED_DIRECTORY / current,)
    make_directory(ARMED_DIRECTORY, undo, mode=PRIVATE_DIRECTORY)
    files = {Path(each.path).name: each.after for each in plan.staged}
    copies: tuple[Path, ...] = ()
    try:
        if not is_sealed(ARMED_DIRECTORY / LAST_GOOD) and not is_sealed(ARMED_DIRECTORY / CURRENT):
            copies = (publish(stage(ARMED_DIRECTORY, files)),)
            undo.callback(remove_tree, *copies)
        staged = stage(ARMED_DIRECTORY, files)
    except OSError as error:
        raise unwritable(ARMED_DIRECTORY, error) from error
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
            write_atomically(each / RECORD_FILE, record.to_json(), mode=PRIVATE_FILE)
        if not staged.name.startswith("."):
            return staged
        generation = publish(staged)
    except OSError as error:
        raise unwritable(staged, error) from error
    undo.callback(remove_tree, generation)
    return generation


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
