"""What iptables can't enforce: refused where it is the backend, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from failshut.config.checks.view import View
from failshut.config.locate import Path
from failshut.config.schema import AllowTable, OutsideTable
from failshut.model.backend import BackendName
from failshut.model.finding import Code, Finding

_OTHER = 'or write [backend] use = "nftables"'
_SLICE = OutsideTable.model_fields["slice"].default


def iptables_can_say_it(view: View) -> Iterator[Finding]:
    """Refuse what needs sets that the kernel empties by itself, or programs that are known by their control group."""
    document = view.declaration.document
    if document.backend.use is not BackendName.IPTABLES:
        return
    for at, what, remedy in _beyond(view):
        message = f"iptables can't enforce {what}"
        yield view.declaration.finding(at, Code.BACKEND_CANT, message, f"{remedy}, {_OTHER}")


def _beyond(view: View) -> Iterator[tuple[Path, str, str]]:
    """Yield each setting that is beyond iptables: its place, what it is, and what to write instead."""
    document = view.declaration.document
    allow, outside = document.allow, document.outside
    if allow.portal:
        yield ("allow", "portal"), "a sign-in for one browser: it does not know programs by their control group", "remove it"
    for at in _on_demand(allow):
        yield at, "what is open on demand: it has no sets that the kernel empties", "remove `on_demand`"
    for index, pin in enumerate(allow.outbound):
        if pin.cgroup is not None:
            yield ("allow", "outbound", index, "cgroup"), "an exception for a control group", "name a `user`"
    if document.boot.initramfs:
        yield ("boot", "initramfs"), "what an initramfs sends: its lock is nftables'", "remove `initramfs`"
    if outside and outside.dns:
        yield ("outside", "dns"), "resolvers of programs outside: it does not know these programs", "remove `dns`"
    if outside and outside.slice != _SLICE:
        yield ("outside", "slice"), "a slice of programs outside", "remove `slice`"


def _on_demand(allow: AllowTable) -> Iterator[Path]:
    if allow.lan and allow.lan.on_demand:
        yield "allow", "lan", "on_demand"
    yield from (("allow", "inbound", index, "on_demand") for index, each in enumerate(allow.inbound) if each.on_demand)
    yield from (("allow", "outbound", index, "on_demand") for index, each in enumerate(allow.outbound) if each.on_demand)
