"""Carries a plan out, and takes it back: every step is put on a stack first, so that a failure leaves the machine as it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from failshut.arming import undo as files_undo
from failshut.arming.errors import ArmingError
from failshut.arming.exclusive import one_at_a_time
from failshut.host.files import sync_directory
from failshut.host.filter import nft
from failshut.host.network.sysctl import set_sysctl
from failshut.host.run import Result, run
from failshut.host.service import systemd
from failshut.host.tunnels.wireguard import running_tunnels
from failshut.model.exits import Exit
from failshut.model.progress import Report
from failshut.server.errors import ServerError
from failshut.server.firewall import NAME, firewall
from failshut.server.model import Server
from failshut.server.places import CONFIG, DIRECTORY, INTERFACE, LOCK, RECORD, RULES, SYSCTLS, TUNNEL_UNIT, UNIT, UNIT_PATH
from failshut.server.plan import Plan

_TABLE = ("table", "inet", NAME)


@contextmanager
def changing() -> Iterator[contextlib.ExitStack]:
    """Keep others from changing the server meanwhile, and hand out the stack of what undoes each step; it runs on a failure.

    Raises `ServerError`, also for what the arming's own helpers raise.
    """
    try:
        with one_at_a_time(LOCK, "changing the server"), contextlib.ExitStack() as undo:
            yield undo
            undo.pop_all()
    except ArmingError as error:
        raise ServerError(str(error), error.help, code=Exit.UNKNOWN if error.permission else Exit.FAILED) from error


def carry_out(plan: Plan, report: Report, undo: contextlib.ExitStack) -> None:
    """Make this machine the server of a plan. Raises `ServerError`, `ArmingError`."""
    with_systemd = systemd.is_running()
    if with_systemd:
        undo.callback(systemd.reload_units)
    files_undo.write(plan.files, undo)
    for each in plan.sysctls:
        report(f"{each.path.replace('/', '.')} = {each.after}")
        undo.callback(set_sysctl, each.path, each.before)
        if not set_sysctl(each.path, each.after):
            raise ServerError(f"{each.path} can't be set", "a container may not forward: ask its host for it")
    _load(plan, report, undo)
    if with_systemd:
        _units(report, undo)
    _bring_up(report, undo, with_systemd=with_systemd)
    _read_back(plan.server)


def _load(plan: Plan, report: Report, undo: contextlib.ExitStack) -> None:
    before = run(["nft", "list", *_TABLE])
    if before.ok and holds(plan.server):
        return
    report("loading the firewall: SSH, WireGuard, and what was asked for")
    undo.callback(_restore, before)
    _must(nft.load(plan.rules), "the firewall does not load")


def _restore(before: Result) -> None:
    run(["nft", "delete", *_TABLE])
    if before.ok:
        nft.load(before.out)


def holds(server: Server) -> bool:
    """Whether the kernel holds the firewall of this server."""
    from failshut.read.nft.text import read_text  # noqa: PLC0415 - the reader is not for `--help`

    listed = run(["nft", "list", *_TABLE])
    return listed.ok and read_text(listed.out, "nft").ruleset.canonical() == firewall(server).canonical()


def _units(report: Report, undo: contextlib.ExitStack) -> None:
    _must(systemd.reload_units(), "systemd does not read the units")
    for unit in (UNIT, TUNNEL_UNIT):
        if not run(["systemctl", "is-enabled", "--quiet", unit]).ok:
            report(f"{unit}: on at every boot")
            undo.callback(systemd.disable, [unit])
            _must(systemd.enable([unit]), f"{unit} can't be enabled")
    if not systemd.is_active(UNIT):
        undo.callback(systemd.stop, UNIT)
        _must(systemd.start(UNIT), f"{UNIT} does not start")


def _bring_up(report: Report, undo: contextlib.ExitStack, *, with_systemd: bool) -> None:
    if INTERFACE in running_tunnels():
        _settle()
        return
    report(f"bringing {INTERFACE} up")
    if with_systemd:
        undo.callback(systemd.forget, TUNNEL_UNIT)
        undo.callback(systemd.stop, TUNNEL_UNIT)
        _must(systemd.start(TUNNEL_UNIT), f"{TUNNEL_UNIT} does not start", f"journalctl -u {TUNNEL_UNIT}")
    else:
        undo.callback(run, ["wg-quick", "down", INTERFACE])
        _must(run(["wg-quick", "up", INTERFACE]), f"{INTERFACE} does not come up")


def _settle() -> None:
    """Have a running tunnel be as its config says; a peer that is in both notices nothing."""
    stripped = run(["wg-quick", "strip", INTERFACE])
    _must(stripped, f"{CONFIG} is not taken by wg-quick")
    _must(
        run(["wg", "syncconf", INTERFACE, "/dev/stdin"], stdin=stripped.out, secret=True), f"{INTERFACE} does not take its config"
    )


def _read_back(server: Server) -> None:
    running = running_tunnels().get(INTERFACE)
    if running is None or running.listen_port != server.port:
        raise ServerError(f"{INTERFACE} is not up as its config says", f"wg-quick down {INTERFACE}, then try again")
    if not holds(server):
        raise ServerError(
            "the kernel does not hold the firewall that was loaded", "`nft list ruleset` shows who is at work beside it"
        )


def dismantle(report: Report) -> Path:
    """Take the server away and put back what there was; return where its config is kept. Raises `ServerError`."""
    if systemd.is_running() and UNIT_PATH.exists():
        report("taking it out of the boot")
        systemd.disable([UNIT, TUNNEL_UNIT])
        systemd.stop(TUNNEL_UNIT, UNIT)
    if INTERFACE in running_tunnels():
        _must(run(["wg-quick", "down", INTERFACE]), f"{INTERFACE} does not go down")
    for path, value in _recorded().items():
        report(f"{path.replace('/', '.')} = {value}")
        set_sysctl(path, value)
    if run(["nft", "list", *_TABLE]).ok:
        report("unloading the firewall")
        _must(run(["nft", "delete", *_TABLE]), "the firewall can't be unloaded")
    kept = _set_aside()
    for file in (UNIT_PATH, SYSCTLS, RULES, RECORD):
        if file.exists():
            file.unlink()
            sync_directory(file.parent)
    with contextlib.suppress(OSError):
        DIRECTORY.rmdir()
    if systemd.is_running():
        systemd.reload_units()
    return kept


def _recorded() -> dict[str, str]:
    try:
        found = json.loads(RECORD.read_text(encoding="utf-8"))["sysctls"]
        return {str(path): str(value) for path, value in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _set_aside() -> Path:
    """Keep the config, which holds the keys, under a name that nothing starts."""
    numbered = (CONFIG.with_suffix(f".removed-{number}") for number in range(1, 1000))
    kept = next(each for each in numbered if not each.exists())
    CONFIG.rename(kept)
    sync_directory(CONFIG.parent)
    return kept


def _must(result: Result, what: str, help: str = "") -> None:  # noqa: A002 - the finding's word
    if not result.ok:
        raise ServerError(f"{what}: {result.complaint}", help)
