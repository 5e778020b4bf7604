"""Was the lock on before the first interface came up in this boot? Decided from what systemd and the journal say. Pure.

Times are in seconds since boot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from failshut.model.lock import LockState

MANAGERS = (
    "systemd-networkd.service",
    "NetworkManager.service",
    "networking.service",
    "dhcpcd.service",
    "connman.service",
    "iwd.service",
    "wpa_supplicant.service",
    "cloud-init-local.service",
)
_MICROSECONDS = 1_000_000
_LOCKED = re.compile(r"^(?P<name>failshut: )?the lock is on \((?P<which>[^)]*)\)")
# What says that a device came up: systemd-networkd, dhcpcd; the kernel (IPv6, drivers, Wi-Fi); NetworkManager; dhclient.
_CAME_UP = (
    re.compile(r"^(?P<device>\S+): (?:Gained carrier|Link UP|carrier acquired|associated\b)"),
    re.compile(r"ADDRCONF\(NETDEV_\w+\): (?P<device>\S+): link becomes ready"),
    re.compile(r"(?P<device>\S+?):? (?:NIC )?Link is [Uu]p\b"),
    re.compile(r"device \((?P<device>[^)]+)\): (?:carrier: link connected|link connected|Activation: starting)"),
    re.compile(r"^DHCP(?:DISCOVER|REQUEST) (?:for \S+ )?on (?P<device>\S+)"),
)


class Answer(StrEnum):
    """What a check says. `unknown` is never "ok"."""

    OK = "ok"
    LEAK = "LEAK"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as `systemctl show` has it; a time is None when it did not run in this boot."""

    name: str
    loaded: bool = False
    active: str = ""
    result: str = ""
    enabled: str = ""
    started: float | None = None
    ended: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the journal, and who wrote it."""

    at: float
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of this boot.

    `state` is what `failshut status` says, with its `reason`; `inside` are devices that are no underlay.
    """

    unit: Unit
    managers: tuple[Unit, ...]
    lines: tuple[Line, ...]
    state: LockState
    reason: str = ""
    inside: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Check:
    """One answer with what it rests on."""

    name: str
    answer: Answer
    why: str


def decide(evidence: Evidence) -> tuple[Check, ...]:
    """Answer every check."""
    lock = locked_at(evidence)
    return (
        _enabled(evidence.unit),
        _succeeded(evidence.unit),
        _before_managers(lock, evidence),
        _before_interfaces(lock, evidence),
        _held(evidence.state, evidence.reason),
    )


def worst_answer(checks: Iterable[Check]) -> Answer:
    """Return LEAK before unknown before ok."""
    found = {each.answer for each in checks}
    return next((each for each in (Answer.LEAK, Answer.UNKNOWN) if each in found), Answer.OK)


def locked_at(evidence: Evidence) -> tuple[float, str] | None:
    """Return when the lock was first on, and who says so; None where nothing does."""
    said = [(line.at, f"the journal: {line.text}") for line in evidence.lines if _says_locked(line)]
    unit = evidence.unit
    if unit.ended is not None and unit.result == "success":
        said.append((unit.ended, f"{unit.name} ended"))
    return min(said, default=None)


def first_up(evidence: Evidence) -> tuple[float, str] | None:
    """Return when the first interface came up and the line that says so; None where no line does."""
    return min(_came_up(evidence), default=None)


def _came_up(evidence: Evidence) -> Iterator[tuple[float, str]]:
    ignored = evidence.inside | {"lo"}
    for line in evidence.lines:
        found = next((match for each in _CAME_UP if (match := each.search(line.text))), None)
        if found and found["device"].rstrip(":") not in ignored:
            yield line.at, f"{line.who}: {line.text}"


def _says_locked(line: Line) -> bool:
    # The kernel's log keeps the program's name apart from what it says; a unit's output has both.
    found = _LOCKED.match(line.text)
    return found is not None and (line.who == "failshut" or found["name"] is not None)


def _enabled(unit: Unit) -> Check:
    if not unit.loaded:
        return Check("enabled", Answer.LEAK, f"{unit.name} is not installed: the next boot comes up without the lock")
    if unit.enabled == "enabled":
        return Check("enabled", Answer.OK, f"{unit.name} is enabled")
    return Check("enabled", Answer.LEAK, f"{unit.name} is {unit.enabled or 'not enabled'}: the next boot comes up without the lock")


def _succeeded(unit: Unit) -> Check:
    if unit.ended is None:
        return Check("succeeded", Answer.LEAK, f"{unit.name} did not run in this boot")
    if unit.active == "active" and unit.result == "success":
        return Check("succeeded", Answer.OK, f"{unit.name} ended with success at {_at(unit.ended)}")
    return Check("succeeded", Answer.LEAK, f"{unit.name} is {unit.active or 'unknown'}, with the result {unit.result or 'unknown'}")


def _before_managers(lock: tuple[float, str] | None, evidence: Evidence) -> Check:
    name = "before network managers"
    started = [(each.started, each.name) for each in evidence.managers if each.started is not None]
    if lock is None:
        return _no_lock(name, evidence)
    if not started:
        return Check(name, Answer.UNKNOWN, "no network manager that failshut knows was started in this boot")
    at, who = min(started)
    if lock[0] <= at:
        return Check(name, Answer.OK, f"lock on at {_at(lock[0])} ({lock[1]}); {who} started at {_at(at)}")
    return Check(name, Answer.LEAK, f"{who} started at {_at(at)}, the lock was on at {_at(lock[0])} ({lock[1]})")


def _before_interfaces(lock: tuple[float, str] | None, evidence: Evidence) -> Check:
    name = "before the first interface"
    if lock is None:
        return _no_lock(name, evidence)
    up = first_up(evidence)
    if up is None:
        return Check(name, Answer.UNKNOWN, "the journal has no line of an interface that came up")
    if lock[0] <= up[0]:
        return Check(name, Answer.OK, f"lock on at {_at(lock[0])}; first up at {_at(up[0])} ({up[1]})")
    return Check(name, Answer.LEAK, f"up at {_at(up[0])} ({up[1]}), and the lock was on at {_at(lock[0])}")


def _no_lock(name: str, evidence: Evidence) -> Check:
    if evidence.lines:
        return Check(name, Answer.LEAK, "nothing in the journal or in systemd says that the lock was loaded in this boot")
    return Check(name, Answer.UNKNOWN, "the journal of this boot is empty or can't be read")


def _held(state: LockState, reason: str) -> Check:
    match state:
        case LockState.ARMED:
            return Check("held now", Answer.OK, "the kernel holds the lock, as it was armed")
        case LockState.UNKNOWN:
            return Check("held now", Answer.UNKNOWN, "the kernel's rules can't be read")
        case _:
            return Check("held now", Answer.LEAK, f"`failshut status` says {state}" + (f": {reason}" if reason else ""))


def _at(seconds: float) -> str:
    return f"{seconds:.3f} s"


def parse_units(text: str) -> tuple[Unit, ...]:
    """Read `systemctl show -p …` of several units: blocks of KEY=VALUE, an empty line between them."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return tuple(_unit(each) for each in blocks if each.get("Id"))


def _unit(block: dict[str, str]) -> Unit:
    return Unit(
        name=block["Id"],
        loaded=block.get("LoadState") == "loaded",
        active=block.get("ActiveState", ""),
        result=block.get("Result", ""),
        enabled=block.get("UnitFileState", ""),
        started=_seconds(block.get("ExecMainStartTimestampMonotonic")),
        ended=_seconds(block.get("ExecMainExitTimestampMonotonic")),
    )


def _seconds(text: str | None) -> float | None:
    """Read microseconds; systemd says 0 for "never"."""
    return int(text) / _MICROSECONDS if text and text.isdigit() and int(text) else None


def parse_journal(text: str) -> tuple[Line, ...]:
    """Read `journalctl -o json`: one object a line. What is no object, or has no time or text, is passed over."""
    return tuple(line for each in text.splitlines() if (line := _line(each)))


def _line(text: str) -> Line | None:
    try:
        entry: dict[str, Any] = json.loads(text)
        # The kernel's own time for its lines: journald read the early ones later than they were written.
        at = _seconds(entry.get("_SOURCE_MONOTONIC_TIMESTAMP") or entry["__MONOTONIC_TIMESTAMP"])
        message = entry["MESSAGE"]
        # What is not UTF-8 stands there as a list of its bytes.
        said = bytes(message).decode(errors="replace") if isinstance(message, list) else str(message)
        return Line(at, str(entry.get("SYSLOG_IDENTIFIER", "")), said) if at is not None else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
