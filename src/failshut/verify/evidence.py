"""What this boot left behind: systemd's times, the journal, the lock as it is now. Reads only."""

from __future__ import annotations

from pathlib import Path

from failshut.arming.armed.status import read_status
from failshut.boot.places import BOOT_UNIT
from failshut.host.run import run
from failshut.verify.boot import MANAGERS, Evidence, Unit, parse_journal, parse_units

_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "Result",
    "UnitFileState",
    "ExecMainStartTimestampMonotonic",
    "ExecMainExitTimestampMonotonic",
)
# In seconds: a long journal takes its time, though only its beginning is read. A machine may be up for a year.
_PATIENCE = 120.0
_FIRST_LINES = 50_000
_JOURNAL = f"""
journalctl --boot --output=json --output-fields=MESSAGE,SYSLOG_IDENTIFIER,_SOURCE_MONOTONIC_TIMESTAMP --no-pager --quiet |
head -n {_FIRST_LINES}
"""


class NoEvidenceError(Exception):
    """Nothing can be known of this boot; the message says why."""


def gather() -> Evidence:
    """Ask systemd, the journal and the kernel. Raises NoEvidenceError where systemd does not run or does not answer."""
    # As libsystemd itself asks whether systemd runs.
    if not Path("/run/systemd/system").is_dir():
        raise NoEvidenceError("systemd does not run here, and nothing else says when the lock was loaded")
    shown = run(["systemctl", "show", f"--property={','.join(_PROPERTIES)}", BOOT_UNIT, *MANAGERS])
    if not shown.ok:
        raise NoEvidenceError(f"systemd does not answer: {shown.complaint}")
    units = {each.name: each for each in parse_units(shown.out)}
    journal = run(["sh", "-c", _JOURNAL], timeout=_PATIENCE)
    status = read_status()
    return Evidence(
        unit=units.get(BOOT_UNIT, Unit(BOOT_UNIT)),
        managers=tuple(units[name] for name in MANAGERS if name in units),
        lines=parse_journal(journal.out) if journal.ok else (),
        state=status.state,
        reason=status.reason,
        inside=frozenset((*status.record.tunnels, *status.record.beside)) if status.record else frozenset(),
    )
