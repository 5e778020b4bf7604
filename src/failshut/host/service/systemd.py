"""systemd, by its own commands: whether it runs, units on and off, and a timer that outlives whoever set it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from failshut.host.run import Result, run

# sd_booted(3): there exactly when systemd is the one who started this machine.
_BOOTED = Path("/run/systemd/system")
_SLOW = 60.0
# Where units come from (systemd.unit(5)), the administrator's first.
_UNITS = tuple(
    map(
        Path,
        (
            "/etc/systemd/system",
            "/run/systemd/system",
            "/usr/local/lib/systemd/system",
            "/usr/lib/systemd/system",
            "/lib/systemd/system",
        ),
    )
)


def has_unit(name: str) -> bool:
    """Whether a unit's file is installed; needs no running systemd."""
    return any((directory / name).exists() for directory in _UNITS)


def is_running() -> bool:
    """Whether systemd is this machine's init."""
    return _BOOTED.is_dir()


def reload_units() -> Result:
    """Have systemd read its unit files anew."""
    return run(["systemctl", "daemon-reload"], timeout=_SLOW)


def enable(units: Sequence[str]) -> Result:
    """Have `units` start at every boot; needs no running systemd."""
    return run(["systemctl", "enable", "--quiet", *units], timeout=_SLOW)


def disable(units: Sequence[str]) -> Result:
    """Take `units` out of the boot."""
    return run(["systemctl", "disable", "--quiet", *units], timeout=_SLOW)


def start(unit: str) -> Result:
    """Start a unit and wait until it is up, or failed."""
    return run(["systemctl", "start", unit], timeout=_SLOW)


def reload(unit: str) -> Result:
    """Have a unit that is up take over its configuration, without stopping it."""
    return run(["systemctl", "reload", unit], timeout=_SLOW)


def stop(*units: str) -> Result:
    """Stop units; fine for one that does not run."""
    return run(["systemctl", "stop", "--quiet", *units], timeout=_SLOW)


def is_active(unit: str) -> bool:
    """Whether a unit is up."""
    return run(["systemctl", "is-active", "--quiet", unit]).ok


def forget(*units: str) -> None:
    """Let systemd forget that units failed, and that it has run them."""
    run(["systemctl", "reset-failed", "--quiet", *units])


def schedule(name: str, seconds: int, argv: Sequence[str]) -> Result:
    """Have systemd run `argv` once, in `seconds`, as `NAME.service`, whatever becomes of the caller; `cancel` takes it back."""
    timer = ["--on-active", f"{seconds}s", "--timer-property=AccuracySec=100ms", "--timer-property=RemainAfterElapse=no"]
    # Not even `systemctl isolate` stops it.
    lasting = [
        f"{kind}={each}"
        for kind in ("--timer-property", "--property")
        for each in ("IgnoreOnIsolate=yes", "DefaultDependencies=no")
    ]
    words = [
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={name}",
        *timer,
        *lasting,
        "--property=SyslogIdentifier=failshut",
        *argv,
    ]
    return run(words, timeout=_SLOW)


def cancel(name: str) -> Result:
    """Take back what `schedule` set, also where it has begun; fine when there is nothing."""
    return stop(f"{name}.timer", f"{name}.service")
