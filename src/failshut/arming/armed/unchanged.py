"""Arming what is armed already: whether anything that a lock is made of has changed since. Reads neither policy nor rules.

With 100,000 prefixes to check, compile, prove and load, arming takes seconds; to find that all is as it was, a fraction of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from failshut import __version__
from failshut.arming.armed.record import Record, load_pending, readable_record
from failshut.arming.armed.status import Status, read_status
from failshut.arming.boot.generations import CURRENT
from failshut.arming.survey import has_room
from failshut.boot.artefacts import SYSCTLS
from failshut.boot.places import ARMED_DIRECTORY, LOADER
from failshut.host import signature
from failshut.host.network.probe import probe
from failshut.host.network.sysctl import read_sysctl
from failshut.host.run import run
from failshut.host.service import systemd
from failshut.model.host import HostFacts
from failshut.model.lock import LockState
from failshut.model.plan import Plan
from failshut.model.policy import Forward, Policy, Tunnel, TunnelKind
from failshut.model.units import InterfaceName

# What names of users and of hosts are looked up in.
_NAMES = ("/etc/passwd", "/etc/hosts", "/etc/machine-id")


def inputs_of(policy: Policy, plan: Plan, began: float) -> tuple[tuple[str, str], ...]:
    """Return what the lock was made of, each by its checksum, to be kept in the record; `began` is when the first was read.

    Nothing for a policy whose meaning is not in these files (names that a resolver knows, what other programs than wg-quick make
    of a tunnel), nor where a file was written meanwhile: it may not be what was read.
    """
    if any(tunnel.kind is not TunnelKind.WG_QUICK for tunnel in policy.tunnels):
        return ()
    if policy.pins or any(tunnel.names or tunnel.named_endpoints for tunnel in policy.tunnels):
        return ()
    files = [str(Path(policy.path).absolute()), *(str(Path(each.config).absolute()) for each in policy.tunnels if each.config)]
    if any(_changed_since(each, began) for each in (*files, *_NAMES)):
        return ()
    # As arming leaves them.
    written = {each.path: _sum(each.after.encode()) for each in plan.configs}
    summed = tuple((path, written.get(path, known)) for path, known in _summed(files))
    return (*summed, ("facts", _facts_sum(plan.facts)), ("failshut", _own_sum()))


def still_armed(policy_path: str) -> Record | None:
    """Return the record of what is armed if arming the policy again would change nothing; None when it might, or nobody knows.

    The kernel holds the lock word for word, the next boot loads it, and nothing that it was made of is another.
    """
    # A signature expires, and a signer is struck off, without any of these files changing.
    if load_pending() or signature.is_required():
        return None
    record = readable_record(ARMED_DIRECTORY / CURRENT)
    if record is None or not record.inputs or record.policy != str(Path(policy_path).absolute()):
        return None
    known = dict(record.inputs)
    # The files first: to ask the kernel for a long list takes most of this.
    now = {**dict(_summed(each for each in known if each.startswith("/"))), "failshut": _own_sum()}
    if {**now, "facts": known.get("facts", "")} != known or record.with_systemd != systemd.is_running():
        return None
    status = read_status(counted=False)
    facts = replace(probe(_like(record, known)), opened=has_room(initramfs=record.in_initramfs))
    if status.record != record or not _is_sound(status) or _facts_sum(facts) != known["facts"]:
        return None
    if any(read_sysctl(path) not in (None, value) for path, value in SYSCTLS):
        return None
    # Puts back what is missing of the routes, and tells the kernel control groups that were made since.
    for each in ("routing", "programs"):
        run(["/bin/sh", LOADER, each])
    return record


def _is_sound(status: Status) -> bool:
    return status.state is LockState.ARMED and not status.drift and status.boot is not None and status.boot.is_sound


def _like(record: Record, known: Iterable[str]) -> Policy:
    """Return a policy that has of the armed one what the machine is asked about."""
    configs = tuple(each for each in known if each.startswith("/") and each not in (*_NAMES, record.policy))
    names = (*record.tunnels, *record.beside)
    # Whose config is whose makes no difference to the secrets.
    padded = (*configs, *(None for _ in names))
    tunnels = tuple(Tunnel(InterfaceName(name), (), config=config) for name, config in zip(names, padded, strict=False))
    return Policy(tunnels, forward=Forward(bridges=record.bridges))


def _summed(paths: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((each, _sum(_content(each))) for each in dict.fromkeys((*paths, *_NAMES)))


def _changed_since(path: str, began: float) -> bool:
    try:
        # The kernel's clock of files goes in steps of a few milliseconds.
        return Path(path).stat().st_mtime > began - 1
    except OSError:
        return False


def _content(path: str) -> bytes:
    try:
        # A named pipe would block.
        return Path(path).read_bytes() if Path(path).is_file() else b""
    except OSError:
        return b""


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _facts_sum(facts: HostFacts) -> str:
    # The marks follow from the tunnels and their configs, and arming writes them there.
    return _sum(repr(replace(facts, tunnels=dict(sorted(facts.tunnels.items())), marks={})).encode())


def _own_sum() -> str:
    """Return a checksum of this very program: another compiler may make another lock of the same policy."""
    found = find_spec("failshut")
    places = found.submodule_search_locations if found else None
    files = sorted(path for place in places or () for path in Path(place).rglob("*.py"))
    stats = ((str(each), each.stat()) for each in files)
    return _sum(repr((__version__, [(name, seen.st_size, seen.st_mtime_ns) for name, seen in stats])).encode())
