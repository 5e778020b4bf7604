"""What an endpoint's name stands for. In a file of its own: `status` reads it from a record, and knows no policy."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.model.units import Address


@dataclass(frozen=True, slots=True)
class Pin:
    """What the host name of an endpoint stands for until a handshake has proven something else.

    `since` is when that became so, in seconds since 1970; 0 for what was looked up just now.
    """

    host: str
    addresses: tuple[Address, ...]
    since: int = 0
