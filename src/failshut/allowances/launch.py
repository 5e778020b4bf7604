"""The command line by which a program starts in a control group, with resolvers and a user of its own.

Each step becomes the next (exec), so that in the end the program itself runs: its exit status, its signals and its terminal are
nobody else's. The group comes first: no instruction of the program runs before it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from failshut.allowances.errors import RefusedError
from failshut.boot.places import RUN_DIRECTORY
from failshut.host.account import Account
from failshut.host.files import write_atomically
from failshut.host.service import cgroups, systemd
from failshut.model.policy import slice_path
from failshut.model.units import Address

# Not the caller's PATH: these run as root.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OWN_DIRECTORY = RUN_DIRECTORY / "programs"

# "0" is the process that writes it (cgroups(7)).
_JOIN = 'echo 0 >"$0/cgroup.procs" && exec "$@"'

# A program asks its resolver itself, by resolv.conf: what would ask for it (nss-resolve, nscd) is a program inside, and is hidden.
_RESOLV = """
(
	set -e
	PATH=/usr/sbin:/usr/bin:/sbin:/bin
	target=$(readlink -f /etc/resolv.conf)
	text=$(cat "$0")
	for each in /run/systemd/resolve /run/nscd; do
		if [ -d $each ]; then mount -t tmpfs -o mode=755 failshut $each; fi
	done
	mkdir -p "$(dirname "$target")"
	if [ -e "$target" ]; then mount --bind "$0" "$target"; else printf '%s\\n' "$text" >"$target"; fi
) && exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Start:
    """How a program is to start: in `slice`, as `account`, asking `resolvers` (the machine's own where none is given).

    `seconds` ends it for good where systemd keeps the time; 0 for no end.
    """

    slice: str
    account: Account
    resolvers: tuple[Address, ...] = ()
    seconds: int = 0


def command_line(start: Start, argv: Sequence[str]) -> list[str]:
    """Return the words that start `argv` so; makes the control group and the resolvers' file. Raises `RefusedError`."""
    return [*_in_group(start), *_with_resolvers(start), *_as_user(start.account), *argv]


def ready_slice(unit: str) -> str:
    """Have a slice's control group be there, and return its path as nft takes it. Raises `RefusedError`."""
    group = slice_path(unit)
    try:
        place = cgroups.hierarchy()
        if systemd.is_running():
            started = systemd.start(unit)
            if not started.ok:
                raise RefusedError(f"{unit} does not start: {started.complaint}")
        else:
            cgroups.make(group)
    except cgroups.NoControlGroupsError as error:
        raise _no_groups(error) from error
    return place.nft_name(group)


def _in_group(start: Start) -> list[str]:
    if systemd.is_running():
        limit = [f"--property=RuntimeMaxSec={start.seconds}"] if start.seconds else []
        return [_tool("systemd-run"), "--scope", "--quiet", "--collect", f"--slice={start.slice}", *limit, "--"]
    try:
        return [_tool("sh"), "-c", _JOIN, str(cgroups.make_one(slice_path(start.slice)))]
    except cgroups.NoControlGroupsError as error:
        raise _no_groups(error) from error


def _with_resolvers(start: Start) -> list[str]:
    if not start.resolvers:
        return []
    if not Path("/etc/resolv.conf").is_symlink() and not Path("/etc/resolv.conf").exists():
        raise RefusedError("there is no /etc/resolv.conf that the program's own could stand in for")
    file = _OWN_DIRECTORY / f"{start.slice}.resolv.conf"
    try:
        write_atomically(file, resolv_conf(start.resolvers))
    except OSError as error:
        raise RefusedError(f"{file} can't be written: {error.strerror}") from error
    private = [_tool("unshare"), "--mount", "--propagation", "slave", "--"]
    return [*private, _tool("sh"), "-c", _RESOLV, str(file)]


def resolv_conf(resolvers: Sequence[Address]) -> str:
    """Return a resolv.conf (resolv.conf(5)) that names these resolvers."""
    return "# failshut: for one program outside the tunnel\n" + "".join(f"nameserver {each}\n" for each in resolvers)


def _as_user(account: Account) -> list[str]:
    # For root too: no capability that could be inherited comes along.
    who = [f"--reuid={account.uid}", f"--regid={account.gid}", "--init-groups"]
    return [_tool("setpriv"), *who, "--inh-caps=-all", "--"]


def _tool(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise RefusedError(f"{name} is not installed")
    return found


def _no_groups(error: cgroups.NoControlGroupsError) -> RefusedError:
    return RefusedError(
        str(error), help="programs are told apart by cgroup v2: boot with systemd, or mount it writable on /sys/fs/cgroup"
    )
