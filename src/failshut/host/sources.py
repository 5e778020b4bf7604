"""Fetches what a policy refers to: files, host names, users. Every failure is a value; nothing here raises for bad input."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from queue import Empty, SimpleQueue

from failshut.config.addresses import is_a_machine_s
from failshut.config.declaration import Access, Checked, Declaration, Sources, Unreadable, Unresolved
from failshut.host import signature
from failshut.host.pins import armed_serial, read_pins
from failshut.host.service.cgroups import NoControlGroupsError, hierarchy
from failshut.model.finding import Code, Finding, Place
from failshut.model.pin import Pin
from failshut.model.policy import Policy
from failshut.model.units import Address

# A policy has a few kilobytes, one with 100,000 prefixes 3 MiB; whatever is larger is another file.
LARGEST_FILE = 16 << 20
# For all names together, in seconds: with the lock armed and the tunnel down, every lookup runs into this.
LOOKUP_DEADLINE = 5.0
HOSTS = "/etc/hosts"


def load_policy(path: str, *, pins: Mapping[str, Pin] | None = None) -> Checked:
    """Read, fetch and check the policy at `path`: the one way in for every verb. Never raises for bad input.

    `pins` stand in for what the armed lock holds names for.
    """
    read = read_policy(path)
    if isinstance(read, Finding):
        return Checked(None, (read,))
    checked = check_text(read.text, path, pins=pins)
    if checked.policy is None or not read.signer:
        return checked
    if (armed := armed_serial()) > checked.policy.serial:
        return Checked(None, (_older(checked.policy, armed), *checked.findings))
    return replace(checked, policy=replace(checked.policy, signed_by=read.signer))


def read_policy(path: str) -> signature.Authentic | Finding:
    """Read the policy's bytes; where this machine asks for signatures, only those that are signed. What was read is what counts.

    An unsigned one is not even parsed: nothing that it names is read or looked up.
    """
    raw = read_limited(path)
    if isinstance(raw, Unreadable):
        return _unreadable_policy(path, raw)
    if not signature.is_required():
        return signature.Authentic(raw)
    return signature.verified(raw, read_limited(f"{path}{signature.SUFFIX}"), path)


def check_text(text: bytes | str, path: str, *, pins: Mapping[str, Pin] | None = None) -> Checked:
    """Check a policy's text as if it stood in `path`; what it refers to is fetched."""
    # Imported here: pydantic is a quarter of a second that `read_limited`'s other users need not pay.
    from failshut.config.policy_file import parse  # noqa: PLC0415
    from failshut.config.resolve import resolve  # noqa: PLC0415

    declaration = parse(text, path)
    if isinstance(declaration, list):
        return Checked(None, tuple(declaration))
    return resolve(declaration, fetch(declaration, pins=read_pins() if pins is None else pins))


def fetch(declaration: Declaration, *, pins: Mapping[str, Pin] | None = None) -> Sources:
    """Bring what `declaration` refers to.

    A name is looked up once, and then pinned: `pins` win over what a resolver says now, and the hosts file over them.
    """
    from failshut.config.tunnels import wanted  # noqa: PLC0415 - as in check_text

    files = {each: read_limited(each) for each in declaration.files}
    beside = {each: companions(each) for each in files}
    named = wanted(declaration, files, beside)
    hosts = dict.fromkeys((*declaration.names, *named.hosts))
    by_hand = pinned_names()
    held = {host: pin for host, pin in (pins or {}).items() if host in hosts and host not in by_hand}
    found = lookup(each for each in hosts if each not in held)
    return Sources(
        files=files,
        names={**found, **{host: pin.addresses for host, pin in held.items()}},
        users={each: user_number(each) for each in (*declaration.users, *named.users)},
        beside=beside,
        access={each: access for each in files if (access := access_to(each))},
        pinned=by_hand,
        pins=held,
        cgroups=existing_groups(declaration.cgroups),
    )


def read_limited(path: str) -> bytes | Unreadable:
    """Read a regular file of at most `LARGEST_FILE` bytes."""
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            # Asked before it is opened: a named pipe would block.
            kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            return Unreadable(f"it is {kind}", help="name the file itself")
        with Path(path).open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        return Unreadable("there is no such file")
    except PermissionError:
        return Unreadable("permission denied", denied=True, help="run the command as root: sudo failshut …")
    except (OSError, ValueError) as error:
        # ValueError: a NUL byte in the path.
        return Unreadable((getattr(error, "strerror", None) or "the path is not one").lower())
    if len(raw) > LARGEST_FILE:
        return Unreadable("it is larger than 16 MiB", help="this can't be the right file")
    return raw


def companions(path: str) -> dict[str, bytes]:
    """Return what belongs to a .netdev, by path: its drop-ins, and the .network files beside it with theirs."""
    if not path.endswith(".netdev"):
        return {}
    networks = sorted(Path(path).parent.glob("*.network"))
    drop_ins = [each for one in (path, *networks) for each in sorted(Path(f"{one}.d").glob("*.conf"))]
    found = {str(each): read_limited(str(each)) for each in (*networks, *drop_ins)}
    return {name: raw for name, raw in found.items() if isinstance(raw, bytes)}


def access_to(path: str) -> Access | None:
    """Return who but root may write a file; None where that can't be seen."""
    try:
        seen = Path(path).stat()
    except (OSError, ValueError):
        return None
    owner = "" if seen.st_uid in (0, os.getuid()) else _user_name(seen.st_uid)
    return Access(owner, others_write=bool(seen.st_mode & 0o002))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def lookup(hosts: Iterable[str], *, deadline: float = LOOKUP_DEADLINE) -> dict[str, tuple[Address, ...] | Unresolved]:
    """Resolve every name to all of its IPv4 and IPv6 addresses, at once; `deadline` is in seconds, for all together."""
    answers: SimpleQueue[tuple[str, tuple[Address, ...] | Unresolved]] = SimpleQueue()
    names = list(dict.fromkeys(hosts))
    for each in names:
        # Daemons, because getaddrinfo can't be interrupted and must not keep the program from leaving.
        threading.Thread(target=lambda name=each: answers.put((name, _addresses(name))), daemon=True).start()
    found: dict[str, tuple[Address, ...] | Unresolved] = {}
    end = time.monotonic() + deadline
    while len(found) < len(names):
        try:
            name, answer = answers.get(timeout=max(end - time.monotonic(), 0))
        except Empty:
            break
        found[name] = answer
    late = Unresolved(f"no answer within {deadline:g} s; is the network down, or the lock armed without a tunnel?")
    return {each: found.get(each, late) for each in names}


def _addresses(host: str) -> tuple[Address, ...] | Unresolved:
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        return Unresolved((error.strerror or "the lookup failed").lower())
    except (OSError, UnicodeError):
        return Unresolved("the lookup failed")
    # A scoped address (fe80::1%eth0) can't be an endpoint.
    texts = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers if "%" not in str(sockaddr[0]))
    found = sorted(map(ip_address, texts), key=lambda each: (each.version, int(each)))
    # What a resolver that filters, or a portal's, says instead of an answer would else be pinned.
    fit = tuple(each for each in found if is_a_machine_s(each))
    return fit or (Unresolved(f"{found[0]} is no machine's address") if found else ())


def user_number(name: str) -> int | None:
    """Return a user's number, or None when there is no such user."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError, UnicodeError):
        return None


def existing_groups(groups: Iterable[str]) -> frozenset[str]:
    """Return those control groups, paths from the root of cgroup v2, that exist."""
    try:
        tree = hierarchy()
    except NoControlGroupsError:
        return frozenset()
    return frozenset(each for each in groups if tree.directory(each).is_dir())


def pinned_names() -> frozenset[str]:
    """Return the host names of the hosts file: their lookup needs no DNS."""
    raw = read_limited(HOSTS)
    if isinstance(raw, Unreadable):
        return frozenset()
    lines = (line.split("#", 1)[0].split() for line in raw.decode("utf-8", errors="replace").splitlines())
    return frozenset(name for words in lines for name in words[1:])


def _older(policy: Policy, armed: int) -> Finding:
    why = f"the policy's serial number is {policy.serial}, and {armed} is armed: an older policy, however well signed"
    return Finding(Code.OLDER_SERIAL, why, Place(policy.path), f"sign a policy with serial = {armed} or more; or disarm first")


def _unreadable_policy(path: str, raw: Unreadable) -> Finding:
    code = Code.NO_PRIVILEGE if raw.denied else Code.FILE_UNREADABLE
    remedy = raw.help or "`failshut init` writes one; --policy FILE names another"
    return Finding(code, f"the policy can't be read: {raw.why}", Place(path), remedy)
