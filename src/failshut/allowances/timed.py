"""Allowances with a deadline: elements of the lock's own sets, which the kernel takes out when their time is up.

Nobody needs to be alive for that, and a re-arming leaves them as they are: `flush table` empties chains, not sets. The first one
has the lock armed once more, with the rules for them, for which no packet pays while nothing is open.
"""

from __future__ import annotations

import json
from dataclasses import replace

from failshut.allowances.errors import RefusedError
from failshut.allowances.openings import Named, Opening, SignIn, element, opened
from failshut.allowances.outside import why_not
from failshut.arming.again import NotArmedError, arm_again, armed_policy
from failshut.arming.errors import ArmingError
from failshut.arming.exclusive import one_at_a_time
from failshut.host.filter import programs
from failshut.host.network.probe import probe
from failshut.host.run import run
from failshut.model.exits import Exit
from failshut.model.progress import Report
from failshut.model.timed import LOGGING, PORTAL_PROGRAMS, TIMED, gate_name

_FAMILIES = ("ipv4", "ipv6")


def allow(opening: Opening, seconds: int, report: Report) -> None:
    """Open it from now on, for `seconds`; what is open already gets the new deadline. Raises `RefusedError`."""
    if isinstance(opening, Named):
        _must_be_there(opening)
    gate = () if isinstance(opening, Named) else _gate(seconds, report)
    done = programs.transaction([*gate, *programs.renewal(element(opening), seconds=seconds)])
    if not done.ok:
        raise RefusedError(
            f"the kernel does not take {opening}: {done.complaint}",
            help="`failshut status` shows what is open; revoke what overlaps",
        )


def _must_be_there(opening: Named) -> None:
    """Raise `RefusedError` for an allowance that the armed lock does not know. It has a gate of its own."""
    if programs.listed(gate_name(opening.name)) is None:
        raise RefusedError(
            f"the armed lock has no allowance '{opening.name}' that waits to be asked for", help=_offer(), exit_code=Exit.USAGE
        )


def _gate(seconds: int, report: Report) -> tuple[str, ...]:
    """Return the commands that open the gate, which spares packets the look-up of the others, until the last of them has ended."""
    listed = programs.listed(TIMED)
    if listed is None:
        _make_room(report)
        listed = ()
    lasting = max([seconds, *(each.seconds + 1 for each in listed if each.seconds is not None)])
    return tuple(programs.renewal([(TIMED, each) for each in _FAMILIES], seconds=lasting))


def _make_room(report: Report) -> None:
    """Arm the lock once more, with the rules for what is open for a time. Raises `RefusedError`."""
    # A set that every lock has.
    if programs.listed(LOGGING) is None:
        raise why_not("the armed lock knows no allowances for a time", "it was armed by an older failshut: `failshut arm`")
    report("arming the lock once more, with the rules for what is open for a time")
    try:
        with one_at_a_time():
            policy = armed_policy()
            arm_again(policy, replace(probe(policy), opened=True), report)
    except NotArmedError as error:
        raise why_not("there is no record of what is armed", "`failshut arm`") from error
    except ArmingError as error:
        raise RefusedError(str(error), help=error.help) from error


def revoke(opening: Opening) -> bool:
    """End it now; False when it was not open."""
    pairs = element(opening)
    done = programs.transaction(f"delete element {programs.place(name)} {{ {text} }}" for name, text in pairs)
    if done.ok and all(isinstance(each.what, Named | SignIn) for each in opened(_listing())):
        _shut_the_gate()
    return done.ok


def revoke_all() -> tuple[str, ...]:
    """End everything that is open for a time, also a sign-in whose `portal` was killed; returns what it was, in words."""
    listing = _listing()
    was = [each.what for each in opened(listing) if not isinstance(each.what, SignIn)]
    sets = _sets(listing)
    # Also where the browser's group is gone, and only its resolver is left.
    sign_in = [each for each in (PORTAL_PROGRAMS, *programs.PORTAL_RESOLVERS.values()) if sets.get(each)]
    gate = {TIMED} & sets.keys()
    done = programs.empty(sorted({name for each in was for name, _ in element(each)}.union(sign_in, gate)))
    if not done.ok:
        raise RefusedError(f"the kernel does not end them: {done.complaint}", help="run it with sudo")
    return tuple(map(str, (*was, *((SignIn(),) if sign_in else ()))))


def _shut_the_gate() -> None:
    """Spare packets the look-ups, and tell the next arming that nothing is open. A lock without the gate has nothing to shut."""
    programs.empty([TIMED])


def _listing() -> list[str]:
    result = run(["nft", "--json", "list", "table", *programs.TABLE])
    if not result.ok:
        raise why_not("the armed lock can't be read", "run it with sudo")
    return [result.out]


def _sets(listing: list[str]) -> dict[str, list[object]]:
    """Return what each set of the lock's table holds, by its name."""
    sets = (entry["set"] for text in listing for entry in json.loads(text)["nftables"] if "set" in entry)
    return {each["name"]: each.get("elem", []) for each in sets}


def _offer() -> str:
    names = sorted(each.removeprefix(gate_name("")) for each in _sets(_listing()) if each.startswith(gate_name("")))
    if names:
        return f"it has {', '.join(names)}"
    return "write on_demand = true under the allowance in the policy, then `failshut arm`"
