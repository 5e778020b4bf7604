"""Lock files (flock(2)): held by one process at a time, or asked of the kernel, so that the question itself holds nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from failshut.host.files import PRIVATE_FILE

_LOCKS = Path("/proc/locks")


@contextlib.contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold a lock file until the block ends. Raises BlockingIOError while another process does, OSError where it can't be opened.

    One that is not there is made, for its owner alone: who may read a file may lock it.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether any process has `path` locked by flock(2); False where the file is not there."""
    try:
        seen = path.stat()
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    number = f"{os.major(seen.st_dev):02x}:{os.minor(seen.st_dev):02x}:{seen.st_ino}"
    # `1: FLOCK  ADVISORY  WRITE 1234 00:19:5678 0 EOF`; one that waits has an arrow behind its number.
    words = (line.split() for line in lines)
    return any(len(each) > 5 and each[1] == "FLOCK" and each[5] == number for each in words)
