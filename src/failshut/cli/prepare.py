"""What every verb that needs a policy does first: load it and print its findings. Brings in pydantic: `status` stays away."""

from __future__ import annotations

from failshut.cli.session import Session, refuse, report
from failshut.host.sources import load_policy
from failshut.model.policy import Policy


def load_policy_or_leave(session: Session, verb: str) -> Policy:
    """Return the policy; leave with `Exit.USAGE` and every finding when it has an error. Warnings go to standard error."""
    checked = load_policy(session.policy)
    if checked.policy is None:
        refuse(checked.findings, session, verb)
    if not session.json:
        report(checked.findings, session)
    return checked.policy
