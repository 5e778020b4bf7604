"""Elements with a deadline in the lock's own sets: the kernel takes them out, whatever becomes of who put them in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from failshut.host.nft import LOCK_NAME, load
from failshut.host.run import Result
from failshut.lower.sets import CANDIDATES, PROBE
from failshut.model.units import Endpoint

_TABLE = f"inet {LOCK_NAME}"


class RefusedError(Exception):
    """The kernel did not take an element: no privilege, or no lock that has the set. The message is nft's."""


@contextlib.contextmanager
def candidate(endpoint: Endpoint, *, seconds: int) -> Iterator[None]:
    """Let every tunnel's own packets, and nothing else, reach `endpoint` for `seconds`, or until this ends if that is earlier."""
    with _opened(CANDIDATES, endpoint, seconds):
        yield


@contextlib.contextmanager
def probed(server: Endpoint, *, seconds: int) -> Iterator[None]:
    """Let root's sockets with the probe's mark reach `server` for `seconds`, or until this ends if that is earlier."""
    with _opened(PROBE, server, seconds):
        yield


@contextlib.contextmanager
def _opened(name: str, to: Endpoint, seconds: int) -> Iterator[None]:
    where = f"{_TABLE} {name}{to.address.version}"
    key = f"{to.address} . {to.protocol} . {int(to.port)}"
    # Added and deleted first: `add` alone leaves an earlier deadline as it was before Linux 6.12.
    renewed = f"add element {where} {{ {key} }}\ndelete element {where} {{ {key} }}\n"
    result = load(f"{renewed}add element {where} {{ {key} timeout {seconds}s }}\n")
    if not result.ok:
        raise RefusedError(_first_line(result))
    try:
        yield
    finally:
        # Added first: the kernel may have been quicker, and to delete what is not there is an error.
        load(renewed)


def _first_line(result: Result) -> str:
    return result.complaint.splitlines()[0]
