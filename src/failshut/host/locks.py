"""Who holds a lock file: asked of the kernel, so that the question itself holds nothing."""

from __future__ import annotations

import os
from pathlib import Path

_LOCKS = Path("/proc/locks")


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
