"""Whether a policy is signed by somebody whom this machine trusts. OpenSSH's own ssh-keygen is what checks and what signs."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from failshut.config.declaration import Unreadable
from failshut.config.source import printable
from failshut.host.run import NOT_FOUND, Result, run
from failshut.model.finding import Code, Finding, Place

# In the format of ssh-keygen(1), ALLOWED SIGNERS. Where it is, nothing is armed without a signature; `--policy` names no other.
SIGNERS = Path("/etc/failshut/allowed_signers")
NAMESPACE = "failshut-policy"
# As `ssh-keygen -Y sign` calls it.
SUFFIX = ".sig"
# A signature has less than one kilobyte, by the largest kind of key less than three.
LARGEST_SIGNATURE = 1 << 14
# In seconds: somebody types a passphrase, or looks for the key to touch.
SIGNING_TAKES = 300.0
_KEY = re.compile(r"with \S+ key (?P<key>\S+)")
_INSTALL = "apt install openssh-client"
_SIGN = "sign it with `failshut sign KEY`, where the key is"


@dataclass(frozen=True, slots=True)
class Authentic:
    """A policy's bytes, and by whom they are signed; "" on a machine that asks for no signature."""

    text: bytes
    signer: str = ""


def is_required() -> bool:
    """Whether this machine takes signed policies alone. What can't be looked at counts as there."""
    try:
        SIGNERS.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def verified(text: bytes, signature: bytes | Unreadable, path: str) -> Authentic | Finding:
    """Return who signed these very bytes, which were read from `path`; else what is wrong. Never raises for bad input."""
    beside = f"{path}{SUFFIX}"
    if isinstance(signature, Unreadable):
        missing = Code.NO_PRIVILEGE if signature.denied else Code.UNSIGNED
        return Finding(missing, f"the policy's signature can't be read: {signature.why}", Place(beside), signature.help or _SIGN)
    trusted = _trusted(SIGNERS)
    if isinstance(trusted, Finding):
        return trusted
    if len(signature) > LARGEST_SIGNATURE:
        return Finding(Code.BAD_SIGNATURE, f"it has {len(signature)} bytes: that is no signature", Place(beside), _SIGN)
    with _held(signature) as given, _held(trusted) as known:
        return _checked(text, beside, given, known)


def _checked(text: bytes, beside: str, given: int, known: int) -> Authentic | Finding:
    """Ask ssh-keygen, which reads the signature and the signers from these descriptors: whatever becomes of the files meanwhile."""

    def asked(what: str, *words: str) -> Result:
        argv = ("ssh-keygen", "-Y", what, *words, "-s", f"/dev/fd/{given}")
        return run(argv, stdin=text, pass_fds=(given, known))

    by_somebody = asked("check-novalidate", "-n", NAMESPACE)
    if by_somebody.code == NOT_FOUND:
        return Finding(Code.NOT_CHECKED, "no signature can be checked: ssh-keygen is not installed", Place(beside), _INSTALL)
    if not by_somebody.ok:
        why = f"the signature is not of this policy: {_said(by_somebody)}"
        return Finding(Code.BAD_SIGNATURE, why, Place(beside), _SIGN)
    found = _KEY.search(by_somebody.out)
    key = found["key"] if found else "an unknown key"
    names = asked("find-principals", "-f", f"/dev/fd/{known}")
    name = next(iter(names.out.splitlines()), "")
    judged = asked("verify", "-n", NAMESPACE, "-f", f"/dev/fd/{known}", "-I", name) if names.ok and name else names
    if judged.ok and name:
        return Authentic(text, name)
    why = f"the policy is signed with {key}, which {SIGNERS} does not allow: {_said(judged)}"
    return Finding(Code.UNKNOWN_SIGNER, why, Place(beside), "have it signed by one of the signers, or add that key's line")


def _trusted(signers: Path) -> bytes | Finding:
    """Return the list of signers; a finding where another than root may have written it."""
    try:
        # Else a named pipe would block.
        with os.fdopen(os.open(signers, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            seen = os.fstat(file.fileno())
            if not stat.S_ISREG(seen.st_mode):
                return Finding(Code.SIGNERS_UNSAFE, "the list of signers is no file", Place(str(signers)))
            if seen.st_uid != 0 or seen.st_mode & 0o022:
                return Finding(
                    Code.SIGNERS_UNSAFE,
                    "the list of signers may be written by others than root",
                    Place(str(signers)),
                    f"chown root: {signers}; chmod go-w {signers}",
                )
            return file.read()
    except PermissionError:
        return Finding(Code.NO_PRIVILEGE, "the list of signers may not be read", Place(str(signers)), "run it with sudo")
    except OSError as error:
        why = f"the list of signers can't be read: {(error.strerror or 'it is no path').lower()}"
        return Finding(Code.SIGNERS_UNSAFE, why, Place(str(signers)))


def sign(text: bytes, key: str) -> Result:
    """Sign a policy; the signature is what the result says. A passphrase is asked for on the terminal."""
    return run(("ssh-keygen", "-Y", "sign", "-f", key, "-n", NAMESPACE), stdin=text, timeout=SIGNING_TAKES)


@contextlib.contextmanager
def _held(content: bytes) -> Iterator[int]:
    """Hold bytes in a file that has no name, for a program that takes only files."""
    descriptor = os.memfd_create("failshut", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield descriptor
    finally:
        os.close(descriptor)


def _said(result: Result) -> str:
    """Return ssh-keygen's own reason: its first line that is one."""
    lines = [each.strip() for each in result.err.splitlines() if each.strip() and not each.startswith("Signing data")]
    # A line of the signers' file stands before its complaint.
    first = lines[0] if lines else "ssh-keygen says no more"
    return printable(re.sub(r"^/dev/fd/\d+:(\d+): ", r"line \1: ", first).rstrip(".").lower())
