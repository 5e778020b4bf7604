"""One arming or disarming at a time, and one of each other work that must not run twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from failshut.arming.errors import ArmingError
from failshut.boot.places import ARMING_LOCK
from failshut.host import locks


@contextlib.contextmanager
def one_at_a_time(path: Path = ARMING_LOCK, doing: str = "arming or disarming") -> Iterator[None]:
    """Refuse a second arm or disarm while one is at work. Raises `ArmingError` then, and without the privilege.

    Other work that must not run twice has a `path` of its own.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.holding(path))
        except BlockingIOError as error:
            raise ArmingError(f"another failshut is {doing} right now", help="wait for it to end, then try again") from error
        except OSError as error:
            raise ArmingError(f"{path} can't be opened: {error.strerror}", help="run it with sudo", permission=True) from error
        yield
