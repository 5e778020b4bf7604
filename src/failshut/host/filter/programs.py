"""The kernel's lists of programs that may go beside the tunnel: sets of control groups in the lock's own table.

The sets are the armed lock's word: where one is missing, the policy that was armed does not allow it. An element with a deadline is
ended by the kernel, whatever becomes of who set it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from failshut.host.filter.nft import load
from failshut.host.run import Result, run
from failshut.host.service.cgroups import NoControlGroupsError, hierarchy
from failshut.model.lock import LOCK_NAME
from failshut.model.timed import PORTAL_DNS
from failshut.model.units import Address

TABLE = ("inet", LOCK_NAME)
PORTAL_RESOLVERS = {4: f"{PORTAL_DNS}4", 6: f"{PORTAL_DNS}6"}


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a set as nft lists it; `seconds` until the kernel ends it, None for one that stays."""

    value: str
    seconds: int | None = None


def listed(name: str) -> tuple[Element, ...] | None:
    """Return what a set of the lock's table holds; None when there is no such set, or it can't be asked."""
    result = run(["nft", "--json", "list", "set", *TABLE, name])
    return tuple(parse_elements(result.out)) if result.ok else None


def parse_elements(text: str) -> Iterator[Element]:
    """Read the elements out of `nft --json list set` (libnftables-json(5))."""
    for item in json.loads(text)["nftables"]:
        for each in item.get("set", {}).get("elem", ()):
            yield _element(each)


def _element(raw: Any) -> Element:
    if isinstance(raw, dict) and "elem" in raw:
        inner = raw["elem"]
        return Element(str(inner["val"]), inner.get("expires"))
    return Element(str(raw))


def admit(elements: Iterable[tuple[str, str]], *, seconds: int | None = None) -> Result:
    """Put elements into sets, in one transaction: pairs of a set's name and an element's text as nft takes it.

    With `seconds` the kernel takes them out again, counted from now also for what is there already (add alone would leave the old
    deadline before Linux 6.12).
    """
    return transaction(renewal(elements, seconds=seconds))


def replace(groups: Iterable[tuple[str, str]]) -> Result:
    """Have sets hold these control groups and no others, in one transaction; a group that is not there (yet) is left out."""
    groups = tuple(groups)
    try:
        place_of = hierarchy()
    except NoControlGroupsError:
        return empty(name for name, _ in groups)
    flushed = (f"flush set {place(name)}" for name in dict.fromkeys(name for name, _ in groups))
    there = [(name, path) for name, path in groups if place_of.directory(path).is_dir()]
    return transaction((*flushed, *(f"add element {place(name)} {{ {group(place_of.nft_name(path))} }}" for name, path in there)))


def renewal(elements: Iterable[tuple[str, str]], *, seconds: int | None = None) -> Iterator[str]:
    """Yield the commands that put elements into sets with that deadline, whatever deadline they have now."""
    deadline = f" timeout {seconds}s" if seconds is not None else ""
    for name, text in elements:
        yield f"add element {place(name)} {{ {text} }}"
        yield f"delete element {place(name)} {{ {text} }}"
        yield f"add element {place(name)} {{ {text}{deadline} }}"


def transaction(commands: Iterable[str]) -> Result:
    """Give nft these commands: all of them or none."""
    return load("\n".join(commands) + "\n")


def place(name: str) -> str:
    """Return where a set of the lock's table is, as nft takes it."""
    return " ".join((*TABLE, name))


def empty(names: Iterable[str]) -> Result:
    """Take everything out of sets, in one transaction."""
    return transaction(f"flush set {place(name)}" for name in names)


def group(name: str) -> str:
    """Return a control group's path as an element."""
    return f'"{name}"'


def resolver(address: Address) -> tuple[str, str]:
    """Return the set and the element of a resolver that a sign-in may ask."""
    return PORTAL_RESOLVERS[address.version], str(address)
