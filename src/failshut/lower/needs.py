"""What every packet pays for, and which locks need it.

Connection tracking, a chain on a hook, a nat chain: each costs every packet 2 to 20 %, whatever it is (docs/reference/cost.md). A
lock has them where something in it asks for them, and not else.
"""

from __future__ import annotations

from failshut.model.host import HostFacts
from failshut.model.policy import Outbound, Policy


def marks_outside(policy: Policy, facts: HostFacts) -> bool:
    """Whether anything may be marked at output, to be routed anew and masqueraded: programs, a sign-in, what is open for a time."""
    return facts.opened or marks_always(policy)


def marks_always(policy: Policy) -> bool:
    """Whether the policy itself has something that is marked, whatever is open."""
    return bool(policy.outside or policy.portal or any(map(is_marked, policy.outbound)))


def is_marked(pin: Outbound) -> bool:
    """Whether a pin can't be routed by what is known when the socket connects."""
    return pin.cgroup is not None or pin.on_demand


def asks_names(policy: Policy) -> bool:
    """Whether our own probes must get out, and the transport to an endpoint's new address: for `refresh` and `portal`."""
    return bool(policy.pins or policy.portal)


def tracks(policy: Policy, facts: HostFacts) -> bool:
    """Whether anything may leave beside the tunnel whose answers are known by their connection alone.

    Or arrive in parts: IPv6's reach the input hook as they are, unless connections are tracked.
    """
    in_parts = any(each.address.version != 4 for tunnel in policy.tunnels for each in tunnel.endpoints)
    return bool(in_parts or marks_outside(policy, facts) or policy.lan or policy.inbound or policy.outbound or policy.tailscale)
