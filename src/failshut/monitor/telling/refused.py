"""What the lock refuses for the first time: by user and destination, as the kernel's own sets count it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from failshut.host.account import user_name
from failshut.host.filter.counters import counted_packets
from failshut.host.run import run
from failshut.lower.ledger import COUNTERS
from failshut.model.lock import LOCK_NAME
from failshut.read.counts import LOCAL_SETS, Blocked, counts

# The sets hold 4,096 destinations of each version of IP.
_REMEMBERED = 16384
_MOST_SHOWN = 3

_Place = tuple[str, str, int, int]


@dataclass(slots=True)
class Refused:
    """Remembers what was refused. Where the counter stands as it stood nothing more is asked."""

    _counted: int | None = None
    _known: OrderedDict[_Place, None] = field(default_factory=OrderedDict)
    _begun: bool = False

    def fresh(self) -> tuple[Blocked, ...]:
        """Return what was never refused before, as far as it is remembered; nothing the first time."""
        counted = counted_packets(LOCK_NAME, COUNTERS[0])
        if counted is None or (counted == self._counted and self._begun):
            return ()
        self._counted = counted
        listed = [run(["nft", "--json", "list", "set", "inet", LOCK_NAME, name]) for name in LOCAL_SETS]
        found = [each for each in counts(tuple(each.out for each in listed if each.ok)).blocked if self._is_new(each)]
        begun, self._begun = self._begun, True
        return tuple(found) if begun else ()

    def _is_new(self, blocked: Blocked) -> bool:
        place = (blocked.destination, blocked.protocol, blocked.port, blocked.uid)
        is_new = place not in self._known
        self._known[place] = None
        self._known.move_to_end(place)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return is_new


def by_user(refused: Sequence[Blocked]) -> dict[int, list[Blocked]]:
    """Return it by user, the most often refused first."""
    found: dict[int, list[Blocked]] = {}
    for each in refused:
        found.setdefault(each.uid, []).append(each)
    return found


def described(uid: int, refused: Sequence[Blocked]) -> str:
    """Return in a sentence what a user's programs were refused."""
    shown = [f"{each.destination} {each.protocol}" + (f" port {each.port}" if each.port else "") for each in refused[:_MOST_SHOWN]]
    more = f" and {len(refused) - _MOST_SHOWN} more" if len(refused) > _MOST_SHOWN else ""
    return f"{user_name(uid)} tried to reach {', '.join(shown)}{more} beside the tunnel for the first time, and was refused"
