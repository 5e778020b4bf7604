"""Checks of the services and the pinned exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from failshut.config.addresses import is_wider
from failshut.config.checks.view import WIDEST, View, overlap
from failshut.config.locate import Path
from failshut.model.finding import Code, Finding, Severity

# net.ipv4.ip_unprivileged_port_start, as the kernel sets it.
_FIRST_UNPRIVILEGED = 1024
# systemd makes these control groups anew whenever the unit starts.
_RESTARTED = (".service", ".scope")


def names_are_unique(view: View) -> Iterator[Finding]:
    """Refuse a name given twice: it stands for one allowance in `status` and in the rules' comments."""
    allow = view.declaration.document.allow
    seen: dict[str, Path] = {}
    sites: list[tuple[Path, str]] = [(("allow", "inbound", index, "name"), each.name) for index, each in enumerate(allow.inbound)]
    sites += [(("allow", "outbound", index, "name"), each.name) for index, each in enumerate(allow.outbound)]
    for at, name in sites:
        if name in seen:
            message = f"the name '{name}' is already taken ({view.declaration.where(seen[name])})"
            yield view.declaration.finding(at, Code.CONTRADICTION, message, "give each allowance a name of its own")
        seen.setdefault(name, at)


def services_are_unique(view: View) -> Iterator[Finding]:
    """Refuse two entries for one service: each would hide the other's `from`."""
    seen: dict[tuple[str, int], Path] = {}
    for index, each in enumerate(view.declaration.document.allow.inbound):
        at: Path = ("allow", "inbound", index)
        key = (each.protocol, each.port)
        if key in seen:
            message = f"{each.protocol} port {int(each.port)} is already allowed ({view.declaration.where(seen[key])})"
            yield view.declaration.finding((*at, "port"), Code.CONTRADICTION, message, "put both lists of `from` into one entry")
        seen.setdefault(key, at)


def services_say_whom_they_serve(view: View) -> Iterator[Finding]:
    """Warn of a service for everyone on a port that any program may hold: a forged caller chooses whom that program writes to."""
    for index, each in enumerate(view.declaration.document.allow.inbound):
        if not each.sources and each.port >= _FIRST_UNPRIVILEGED:
            message = f"'{each.name}' serves whoever calls, on a port that any program may hold"
            remedy = (
                "whoever can forge a call chooses an address that such a program may then write to: name your callers in `from`"
            )
            yield view.declaration.finding(("allow", "inbound", index), Code.OPEN_SERVICE, message, remedy, Severity.WARNING)


def exceptions_are_pinned(view: View) -> Iterator[Finding]:
    """Refuse an exception for half the Internet, for a tunnel's endpoint, or for a user who does not exist."""
    for index, each in enumerate(view.declaration.document.allow.outbound):
        at: Path = ("allow", "outbound", index)
        for place, prefix in enumerate(each.to):
            if is_wider(prefix, *WIDEST):
                message = f"{prefix} is no pinned exception: port {int(each.port)} of everything in it would leave in the clear"
                yield view.declaration.finding((*at, "to", place), Code.TOO_WIDE, message, "name the servers' addresses")
                continue
            for built in view.tunnels:
                for endpoint in built.endpoints:
                    site = endpoint.value
                    if site.address in prefix and (site.protocol, site.port) == (each.protocol, each.port):
                        message = f"'{each.name}' opens {built.name}'s endpoint {site} ({endpoint.where}) to other programs"
                        remedy = "remove it: the handshake is allowed already, and only to the tunnel"
                        yield view.declaration.finding((*at, "to", place), Code.CONTRADICTION, message, remedy)
        if isinstance(each.user, str) and view.sources.users.get(each.user) is None:
            message = f"there is no user '{each.user}' on this machine"
            yield view.declaration.finding(
                (*at, "user"), Code.UNKNOWN_USER, message, "`getent passwd` lists them; a number works too"
            )


def exceptions_are_apart(view: View) -> Iterator[Finding]:
    """Warn of two exceptions for one site: the wider one hides whom the other was for."""
    for (first, one), (second, other) in combinations(enumerate(view.declaration.document.allow.outbound), 2):
        if (one.protocol, one.port) != (other.protocol, other.port):
            continue
        both = next(((a, b) for a in one.to for b in other.to if overlap(a, b)), None)
        if both and (one.user, one.cgroup) != (other.user, other.cgroup):
            where = view.declaration.where(("allow", "outbound", first))
            message = f"'{other.name}' opens {both[1]} and '{one.name}' ({where}) opens {both[0]}, each to other programs"
            remedy = "what one of them allows, the other can't refuse: name addresses that don't overlap"
            yield view.declaration.finding(("allow", "outbound", second), Code.CONTRADICTION, message, remedy, Severity.WARNING)


def control_groups_exist(view: View) -> Iterator[Finding]:
    """Refuse a control group that there is none of; warn of one that is another after every restart."""
    for index, each in enumerate(view.declaration.document.allow.outbound):
        at: Path = ("allow", "outbound", index, "cgroup")
        if each.cgroup is None:
            continue
        if each.cgroup not in view.sources.cgroups:
            message = f"there is no control group '{each.cgroup}' on this machine"
            yield view.declaration.finding(at, Code.UNKNOWN_CGROUP, message, "`systemd-cgls` shows them; start its unit first")
        elif each.cgroup.endswith(_RESTARTED):
            message = f"'{each.cgroup}' is a new control group whenever its unit starts, and '{each.name}' then holds for none"
            remedy = "put the unit into a slice (Slice=) and name that; else arm again after each start"
            yield view.declaration.finding(at, Code.UNKNOWN_CGROUP, message, remedy, Severity.WARNING)
