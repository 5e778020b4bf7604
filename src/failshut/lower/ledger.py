"""What is refused is counted in the kernel: a dynamic set keyed by destination, protocol, port and user.

"What would have leaked" is there when someone looks and costs nothing while nobody does. A full set ends its rule, never the
refusal: no verdict stands behind an `update`.
"""

from __future__ import annotations

from collections.abc import Iterator

from failshut.lower.rules import FAMILIES, L4PROTO, SKUID, is_, is_not, rule
from failshut.model.policy import BlockedLog, Policy
from failshut.model.ruleset import AnySet, Concat, Counter, Limit, Log, Meta, NamedSet, Payload, Rule, SetRef, Update
from failshut.model.timed import LOGGING

COUNTERS = ("blocked", "forwarded")
NFLOG_GROUP = 7

_SIZE = 4096
_HOUR = 3600
_PORTED = AnySet(("tcp", "udp"))
# What is said of each refused packet, and how often at most: the kernel's log is a file that fills up, while a group that nobody
# listens to costs next to nothing. Neither limits what is counted.
_KERNEL = (Limit(rate=5, per="second", burst=20), Log(prefix="failshut blocked: ", level="info"))
_LOG: dict[BlockedLog, tuple[Limit, Log] | None] = {
    BlockedLog.COUNT: None,
    BlockedLog.NFLOG: (Limit(rate=1000, per="second", burst=5000), Log(prefix="failshut blocked: ", group=NFLOG_GROUP)),
    BlockedLog.KERNEL: _KERNEL,
}


def ledger_sets() -> Iterator[NamedSet]:
    """Yield the dynamic sets: `blocked4/6` for local programs, `forwarded4/6` for routed clients."""
    for version, (_, address) in FAMILIES.items():
        yield _dynamic(f"blocked{version}", (address, "inet_proto", "inet_service", "uid"))
    for version, (_, address) in FAMILIES.items():
        yield _dynamic(f"forwarded{version}", (address, address, "inet_proto", "inet_service"))


def blocked_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the bookkeeping for what local programs sent. ICMP and the like have no port: 0 stands for it."""
    yield rule("count", Counter("blocked"))
    for version, (family, _) in FAMILIES.items():
        destination = Payload(family, "daddr")
        key = Concat((destination, L4PROTO, Payload("th", "dport"), SKUID))
        yield rule("count", is_(L4PROTO, _PORTED), Update(f"blocked{version}", key))
        portless = Concat((destination, L4PROTO, 0, SKUID))
        yield rule("count", is_not(L4PROTO, _PORTED), Update(f"blocked{version}", portless))
    yield from _log_rules(policy)


def forwarded_rules(policy: Policy) -> Iterator[Rule]:
    """Yield the bookkeeping for what routed clients, containers and machines sent."""
    yield rule("count", Counter("forwarded"))
    for version, (family, _) in FAMILIES.items():
        key = Concat((Payload(family, "saddr"), Payload(family, "daddr"), L4PROTO, Payload("th", "dport")))
        yield rule("count", is_(L4PROTO, _PORTED), Update(f"forwarded{version}", key))
    yield from _log_rules(policy)


def _log_rules(policy: Policy) -> Iterator[Rule]:
    said = _LOG[policy.log]
    if said is not None:
        yield rule("log", *said)
    if policy.log is not BlockedLog.KERNEL:
        # `failshut log`: the kernel's log, for as long as the kernel keeps the element.
        yield rule("log:switch", is_(Meta("nfproto"), SetRef(LOGGING)), *_KERNEL)


def _dynamic(name: str, key: tuple[str, ...]) -> NamedSet:
    return NamedSet(name, key, frozenset({"dynamic", "timeout"}), size=_SIZE, timeout=_HOUR, counter=True)
