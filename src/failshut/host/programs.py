"""The kernel's lists of programs that may go beside the tunnel: sets of control groups in the lock's own table.

The sets are the armed lock's word: where one is missing, the policy that was armed does not allow it. An element with a deadline is
ended by the kernel, whatever becomes of who set it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from failshut.host.nft import load
from failshut.host.run import Result, run
from failshut.lower.lock import NAME
from failshut.lower.sets import PORTAL_DNS
from failshut.model.ruleset import Family
from failshut.model.units import Address

TABLE = (Family.INET, NAME)
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
    deadline = f" timeout {seconds}s" if seconds is not None else ""
    lines = []
    for name, text in elements:
        where = " ".join((*TABLE, name))
        lines += [f"add element {where} {{ {text} }}", f"delete element {where} {{ {text} }}"]
        lines.append(f"add element {where} {{ {text}{deadline} }}")
    return load("\n".join(lines) + "\n")


def empty(names: Iterable[str]) -> Result:
    """Take everything out of sets, in one transaction."""
    return load("".join(f"flush set {' '.join((*TABLE, name))}\n" for name in names))


def group(name: str) -> str:
    """Return a control group's path as an element."""
    return f'"{name}"'


def resolver(address: Address) -> tuple[str, str]:
    """Return the set and the element of a resolver that a sign-in may ask."""
    return PORTAL_RESOLVERS[address.version], str(address)
