"""Allowances with a deadline: elements of the lock's own sets, which the kernel takes out when their time is up.

Nobody needs to be alive for that, and a re-arming leaves them as they are: `flush table` empties chains, not sets.
"""

from __future__ import annotations

import json

from failshut.allowances.errors import RefusedError
from failshut.allowances.openings import Named, Open, Opening, element, opened
from failshut.allowances.outside import why_not
from failshut.host.filter import programs
from failshut.host.run import run
from failshut.model.exits import Exit
from failshut.model.timed import TIMED, gate_name

_FAMILIES = ("ipv4", "ipv6")


def allow(opening: Opening, seconds: int) -> None:
    """Open it from now on, for `seconds`; what is open already gets the new deadline. Raises `RefusedError`."""
    listed = programs.listed(TIMED)
    if listed is None:
        raise why_not("the armed lock knows no allowances for a time", "it was armed by an older failshut: `failshut arm`")
    if isinstance(opening, Named) and programs.listed(gate_name(opening.name)) is None:
        raise RefusedError(
            f"the armed lock has no allowance '{opening.name}' that waits to be asked for", help=_offer(), exit_code=Exit.USAGE
        )
    # The gate spares every packet the look-up of the others: it must stand as long as the last of them.
    gate = max([seconds, *(each.seconds + 1 for each in listed if each.seconds is not None)])
    lines = [*programs.renewal([(TIMED, each) for each in _FAMILIES], seconds=gate)]
    done = programs.transaction([*lines, *programs.renewal(element(opening), seconds=seconds)])
    if not done.ok:
        raise RefusedError(
            f"the kernel does not take {opening}: {done.complaint}",
            help="`failshut status` shows what is open; revoke what overlaps",
        )


def revoke(opening: Opening) -> bool:
    """End it now; False when it was not open."""
    pairs = element(opening)
    done = programs.transaction(f"delete element {programs.place(name)} {{ {text} }}" for name, text in pairs)
    return done.ok


def revoke_all() -> tuple[Open, ...]:
    """End everything that is open for a time; returns what it was."""
    was = tuple(opened(_listing()))
    names = {name for each in was for name, _ in element(each.what)}
    done = programs.empty(sorted(names))
    if not done.ok:
        raise RefusedError(f"the kernel does not end them: {done.complaint}", help="run it with sudo")
    return was


def _listing() -> list[str]:
    result = run(["nft", "--json", "list", "table", *programs.TABLE])
    if not result.ok:
        raise why_not("the armed lock can't be read", "run it with sudo")
    return [result.out]


def _offer() -> str:
    sets = (entry.get("set", {}).get("name", "") for text in _listing() for entry in json.loads(text)["nftables"])
    names = sorted(each.removeprefix(gate_name("")) for each in sets if each.startswith(gate_name("")))
    if names:
        return f"it has {', '.join(names)}"
    return "write on_demand = true under the allowance in the policy, then `failshut arm`"
