"""Who called: the user behind sudo, pkexec or doas, and the surroundings that a program of his is used to."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Root's own, or about how root came to be.
_NOT_PASSED_ON = ("SUDO_COMMAND", "SUDO_USER", "SUDO_UID", "SUDO_GID", "PKEXEC_UID", "DOAS_USER", "MAIL")
# Of the session that we run in: another user's program could not use them.
_OF_A_SESSION = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


class NoSuchUserError(Exception):
    """There is no such user; the message names it."""


def named(name: str) -> Account:
    """Return a user by name or number. Raises `NoSuchUserError`."""
    try:
        return _account(pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name))
    except (KeyError, ValueError, OverflowError, UnicodeError):
        raise NoSuchUserError(f"there is no user '{name}'") from None


def user_name(uid: int | None) -> str:
    """Return a user's name, the number of one who has none, and "nobody" for no user at all."""
    if uid is None:
        return "nobody"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def caller() -> Account:
    """Return who called: by sudo's, pkexec's or doas' word where this runs as root, else who runs this."""
    behind = next((os.environ[each] for each in ("SUDO_UID", "PKEXEC_UID", "DOAS_USER") if os.environ.get(each)), "")
    return named(behind if behind and os.geteuid() == 0 else str(os.geteuid()))


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def surroundings(account: Account, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a program that runs as `account`: ours, with the user's own home, session bus and display."""
    dropped = _NOT_PASSED_ON + (_OF_A_SESSION if account.uid != os.geteuid() else ())
    passed = {name: value for name, value in environment.items() if name not in dropped}
    own = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell or "/bin/sh"}
    return {**passed, **own, **_session(account, passed)}


def _session(account: Account, passed: Mapping[str, str]) -> dict[str, str]:
    """Return what a program needs to find the user's session: sudo keeps DISPLAY at most."""
    directory = Path("/run/user", str(account.uid))
    if not directory.is_dir():
        return {}
    found = {"XDG_RUNTIME_DIR": str(directory)}
    if (directory / "bus").is_socket():
        found["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={directory}/bus"
    screens = sorted(each.name for each in directory.glob("wayland-*") if each.is_socket())
    if "WAYLAND_DISPLAY" not in passed and screens:
        found["WAYLAND_DISPLAY"] = screens[0]
    return found
