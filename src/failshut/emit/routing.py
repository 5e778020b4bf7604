"""Routing → text for `ip -force -batch`, one file for each version of IP."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.model.routing import ALL_BITS, MAIN, OUR_PROTOCOL, Routing, RoutingRule, ThrowRoute

# The main table by its name, so that what `ip rule` prints can be compared with what was said.
_NAMES = {MAIN: "main"}
_RULE = "rule add pref 0"


def emit_rules(routing: Routing) -> str:
    """Return the lines that add the rules. The devices that get no group stand in comments, for the script that loads them."""
    spared = (*(f"# tunnel {each}" for each in routing.tunnels), *(f"# bridge {each}" for each in routing.bridges))
    return "".join(f"{line}\n" for line in (*spared, *(f"{_RULE} {rule_text(each)}" for each in routing.rules)))


def emit_routes(routing: Routing) -> str:
    """Return the lines that add the routes."""
    return "".join(f"{_route_text(each)}\n" for each in routing.routes)


def rule_text(rule: RoutingRule) -> str:
    """Return a rule in the words of ip-rule(8), without its preference; it says that it is ours."""
    return " ".join((*_words(rule), f"protocol {OUR_PROTOCOL}"))


def _words(rule: RoutingRule) -> Iterator[str]:
    yield from _matches(rule)
    yield "unreachable" if rule.table is None else f"lookup {_NAMES.get(rule.table, int(rule.table))}"
    if rule.suppress_prefix is not None:
        yield f"suppress_prefixlength {rule.suppress_prefix}"
    if rule.suppress_group is not None:
        yield f"suppress_ifgroup {rule.suppress_group}"


def _matches(rule: RoutingRule) -> Iterator[str]:
    if rule.inverted:
        yield "not"
    if rule.to is not None:
        yield f"to {rule.to}"
    if rule.arrived_by is not None:
        yield f"iif {rule.arrived_by}"
    if rule.mark is not None:
        # A mark of 0 matches everything unless its mask is said.
        yield f"fwmark {int(rule.mark):#x}" + ("" if rule.mark and rule.mask == ALL_BITS else f"/{int(rule.mask):#x}")
    if rule.protocol is not None:
        yield f"ipproto {rule.protocol}"
    if rule.source_port is not None:
        yield f"sport {int(rule.source_port)}"
    if rule.port is not None:
        yield f"dport {int(rule.port)}"
    if rule.uid is not None:
        yield f"uidrange {rule.uid}-{rule.uid}"


def _route_text(route: ThrowRoute) -> str:
    return f"route replace throw {route.prefix} table {int(route.table)} protocol {OUR_PROTOCOL}"
