"""Joins a declaration with what was fetched for it: the checked `Policy`, or the findings that forbid one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from operator import itemgetter

from failshut.config.checks import CHECKS, View
from failshut.config.declaration import Checked, Declaration, Sources
from failshut.config.schema import (
    ForwardTable,
    InboundTable,
    LanTable,
    MetricsTable,
    OutboundTable,
    OutsideTable,
    TailscaleTable,
)
from failshut.config.tunnels import Built, build
from failshut.model.pin import Pin
from failshut.model.policy import Forward, Inbound, Lan, Metrics, Outbound, Outside, Policy, Tailscale
from failshut.model.units import Prefix, bounds


def resolve(declaration: Declaration, sources: Sources) -> Checked:
    """Return the policy with every name turned into addresses; no policy where any finding is an error.

    Findings are in the order of their files and lines, the policy file's first.
    """
    tunnels = build(declaration, sources)
    view = View(declaration, sources, tunnels)
    found = [
        *declaration.findings,
        *(each for built in tunnels for each in built.findings),
        *(each for check in CHECKS for each in check(view)),
    ]
    found.sort(key=lambda each: (each.place.file != declaration.path, each.place.file, each.place.line, each.place.column))
    findings = tuple(dict.fromkeys(found))
    if any(each.is_error for each in findings):
        return Checked(None, findings)
    document = declaration.document
    policy = Policy(
        tunnels=tuple(each.tunnel() for each in tunnels),
        dhcp=document.allow.dhcp,
        ndp=document.allow.ndp,
        portal=document.allow.portal,
        lan=_lan(document.allow.lan) if document.allow.lan else None,
        inbound=tuple(_inbound(each) for each in document.allow.inbound),
        outbound=tuple(_outbound(each, sources) for each in document.allow.outbound),
        tailscale=_tailscale(document.allow.tailscale) if document.allow.tailscale else None,
        outside=_outside(document.outside) if document.outside else None,
        forward=_forward(document.forward),
        log=document.log.blocked,
        initramfs=document.boot.initramfs,
        metrics=_metrics(document.metrics) if document.metrics else None,
        backend=document.backend.use,
        pins=tuple(_pins(tunnels, sources)),
        resolvers=tuple(dict.fromkeys(document.endpoint.resolvers)),
        serial=document.serial,
        path=declaration.path,
    )
    return Checked(policy, findings)


def merged(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """Return the same addresses in the fewest prefixes: nft refuses a set whose intervals overlap."""
    given = [(each.version, *bounds(each), each) for each in prefixes]
    given.sort(key=itemgetter(0, 1, 2))
    # Runs of prefixes that overlap or touch: what stands alone is its own fewest, and of 100,000 nearly all do.
    runs: list[list[Prefix]] = []
    end = (0, 0)
    for version, low, high, prefix in given:
        if runs and (version, low) <= end:
            runs[-1].append(prefix)
        else:
            runs.append([prefix])
            end = (version, 0)
        end = max(end, (version, high + 1))
    return tuple(each for run in runs for each in (run if len(run) == 1 else _collapsed(run)))


def _collapsed(run: list[Prefix]) -> Iterator[Prefix]:
    yield from collapse_addresses([each for each in run if isinstance(each, IPv4Network)])
    yield from collapse_addresses([each for each in run if isinstance(each, IPv6Network)])


def _pins(tunnels: Iterable[Built], sources: Sources) -> Iterator[Pin]:
    """Yield what each name of an endpoint stands for now, without those that the user has pinned in /etc/hosts."""
    for host in dict.fromkeys(each.host for built in tunnels for each in built.names):
        known, found = sources.pins.get(host), sources.names.get(host)
        if host not in sources.pinned and isinstance(found, tuple):
            yield known if known and known.addresses == found else Pin(host, found)


def _patterns(patterns: list[str]) -> tuple[str, ...]:
    """Drop what a wider pattern covers, for the same reason as `merged`."""
    stars = [each[:-1] for each in patterns if each.endswith("*")]
    kept = [
        each
        for each in dict.fromkeys(patterns)
        if not any(each.removesuffix("*").startswith(star) and each != f"{star}*" for star in stars)
    ]
    return tuple(kept)


def _lan(table: LanTable) -> Lan:
    return Lan(
        merged(table.prefixes),
        _patterns(table.interfaces),
        table.dns,
        table.multicast,
        tuple(dict.fromkeys(table.services)),
        merged(table.routed),
        table.on_demand,
    )


def _inbound(table: InboundTable) -> Inbound:
    return Inbound(table.name, table.protocol, table.port, merged(table.sources), table.on_demand)


def _tailscale(table: TailscaleTable) -> Tailscale:
    return Tailscale(table.port, tuple(dict.fromkeys(table.tcp)), merged(table.servers))


def _outbound(table: OutboundTable, sources: Sources) -> Outbound:
    uid = sources.users[table.user] if isinstance(table.user, str) else table.user
    return Outbound(table.name, table.protocol, merged(table.to), table.port, uid, table.cgroup, table.on_demand)


def _outside(table: OutsideTable) -> Outside:
    return Outside(merged(table.prefixes), tuple(dict.fromkeys(table.dns)), table.slice)


def _forward(table: ForwardTable) -> Forward:
    clients = tuple(dict.fromkeys(table.clients))
    return Forward(table.mode, _patterns(table.bridges), clients, merged(table.local), merged(table.remote))


def _metrics(table: MetricsTable) -> Metrics:
    return Metrics(
        tuple(dict.fromkeys(table.listen)), table.textfile, table.user, table.password_file, table.certificate, table.key
    )
