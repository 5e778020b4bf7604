"""Elements with a deadline in the lock's own sets: the kernel takes them out, whatever becomes of who put them in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from failshut.host.filter import programs
from failshut.host.run import Result
from failshut.model.timed import CANDIDATES, PROBE
from failshut.model.units import Endpoint


class NotTakenError(Exception):
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
    pair = (f"{name}{to.address.version}", f"{to.address} . {to.protocol} . {int(to.port)}")
    result = programs.admit([pair], seconds=seconds)
    if not result.ok:
        raise NotTakenError(_first_line(result))
    try:
        yield
    finally:
        # Renewed first: the kernel may have been quicker, and to delete what is not there is an error.
        where = programs.place(pair[0])
        programs.transaction([*programs.renewal([pair]), f"delete element {where} {{ {pair[1]} }}"])


def _first_line(result: Result) -> str:
    return result.complaint.splitlines()[0]
