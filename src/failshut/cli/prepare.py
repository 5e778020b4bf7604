"""What every verb that needs a policy does first: load it and print its findings. Brings in pydantic: `status` stays away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from failshut.cli.session import Failure, Session, refuse, report
from failshut.model.exits import Exit
from failshut.model.finding import Finding
from failshut.model.units import Address

if TYPE_CHECKING:
    from failshut.model.policy import Policy


def load_policy_or_leave(session: Session, verb: str) -> Policy:
    """Return the policy; leave with `Exit.USAGE` and every finding when it has an error. Warnings go to standard error."""
    from failshut.host.sources import load_policy

    checked = load_policy(session.policy)
    if checked.policy is None:
        refuse(checked.findings, session, verb)
    if not session.json:
        report(checked.findings, session)
    return checked.policy


_OUTSIDE = "write [outside] into it, look with `failshut plan`, then `failshut arm`"


@dataclass(frozen=True, slots=True)
class Outside:
    """[outside] of a policy file, as it is declared."""

    slice: str
    dns: tuple[Address, ...] = ()


def load_outside_or_leave(session: Session, verb: str) -> Outside:
    """Return the policy's [outside]; leave when there is none. Looks nothing up: it must work while the tunnel is down."""
    from failshut.config.policy_file import parse
    from failshut.host.sources import read_policy

    read = read_policy(session.policy)
    if isinstance(read, Finding):
        refuse([read], session, verb)
    declaration = parse(read.text, session.policy)
    if isinstance(declaration, list):
        refuse(declaration, session, verb)
    table = declaration.document.outside
    if table is None:
        raise Failure(f"{session.policy} lets no program outside the tunnel", help=_OUTSIDE, exit_code=Exit.USAGE)
    return Outside(table.slice, tuple(dict.fromkeys(table.dns)))
