"""Errors that the kernel itself answers a packet with (RFC 792, RFC 4443), some of them before any hook has judged the packet.

They quote what they are about to whoever it names as its sender: a forger's way to have this machine carry his data on, or speak
by its tunnel of what came by the cable. Connection tracking is no help: it calls those related, too, that nobody's flow called for.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.forwarding import uplinked_bridges
from failshut.lower.rules import OIFNAME, any_of, is_, is_not, rule
from failshut.model.host import HostFacts
from failshut.model.policy import Policy
from failshut.model.ruleset import AnySet, Payload, Rule, Verdict

# Written before there is a hook: a time that is up (of a fragment, or of hops), an option that is unfit, a better way.
_EARLY = {
    "icmp": ("redirect", "time-exceeded", "parameter-problem"),
    "icmpv6": ("time-exceeded", "parameter-problem", "nd-redirect"),
}
# And those of a router for what it can't send on.
_ROUTERS = {"icmp": ("destination-unreachable",), "icmpv6": ("destination-unreachable", "packet-too-big")}


def kernel_answer_rules(policy: Policy, facts: HostFacts) -> Iterator[Rule]:
    """Yield the output rules that refuse them: into a tunnel all of them, and no early one but to this machine and its bridges."""
    uplinked = uplinked_bridges(policy, facts)
    outside = [is_not(OIFNAME, AnySet(("lo", *policy.forward.bridges))), *([is_(OIFNAME, any_of(uplinked))] if uplinked else [])]
    tunnels = is_(OIFNAME, any_of(str(each) for each in policy.interfaces))
    for protocol, early in _EARLY.items():
        kind = Payload(protocol, "type")
        for way in outside:
            yield rule("kernel-answer", is_(kind, AnySet(early)), way, Verdict.DROP)
        yield rule("kernel-answer", is_(kind, any_of(_ROUTERS[protocol])), tunnels, Verdict.DROP)
