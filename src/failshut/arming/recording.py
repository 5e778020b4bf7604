"""The record of what is being armed: made of the plan, of what the kernel then holds, and of what an earlier arming knew."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from failshut import __version__
from failshut.arming.armed.record import ChangedSysctl, EditedConfig, MarkedTunnel, Record, load_record
from failshut.arming.backends import Listing
from failshut.arming.boot.generations import CURRENT
from failshut.arming.boot.install import missing_directories, seals
from failshut.arming.kernel.compare import guarded_devices
from failshut.arming.kernel.routing import lines_of
from failshut.emit.tunnel_marks import mark_of_ours, place_of
from failshut.emit.wgquick import TAG
from failshut.model.plan import Plan
from failshut.model.policy import DEFAULT_FWMARK, Policy, Tunnel


def record_of(policy: Policy, plan: Plan, loaded: Listing, directory: Path) -> Record:
    """Return the record of a lock that is loaded, or will be by a boot."""
    try:
        earlier = load_record(directory / CURRENT)
    except ValueError:
        # A broken record is replaced; what it knew of edited configs is still in their tagged lines.
        earlier = None
    marks = {str(each.interface): MarkedTunnel(each.interface, each.before) for each in plan.marks}
    sysctls = {each.path: ChangedSysctl(each.path, each.before) for each in plan.sysctls}
    configs = {each.path: each for each in _tagged(policy)}
    missing = missing_directories() if plan.with_systemd else ()
    if earlier:
        # Re-arming must not forget what the first arming changed, nor take it for the user's own.
        configs = {each.path: each for each in earlier.configs} | configs
        marks |= {each.interface: each for each in earlier.marks}
        sysctls |= {each.path: each for each in earlier.sysctls}
    return Record(
        canonical=plan.canonical,
        listing=loaded.texts,
        policy=str(Path(policy.path).absolute()),
        armed_at=int(time.time()),
        version=__version__,
        tunnels=tuple(str(each.interface) for each in policy.tunnels),
        routed=tuple(str(each.interface) for each in policy.tunnels if each.is_routed),
        beside=tuple(str(each) for each in policy.beside),
        bridges=policy.forward.bridges,
        guarded=guarded_devices(plan.wanted),
        under_ip=plan.under_ip,
        with_systemd=plan.with_systemd,
        in_initramfs=plan.initramfs,
        configs=tuple(configs.values()),
        marks=tuple(marks.values()),
        sysctls=tuple(sysctls.values()),
        boot=tuple(seals(plan.boot).items()),
        routing=lines_of(plan.routes) if plan.routes else (),
        notes=plan.notes,
        pins=tuple(replace(each, since=each.since or int(time.time())) for each in policy.pins),
        digest=digest_of(_as_written(policy, plan)),
        serial=policy.serial,
        signed_by=policy.signed_by,
        backend=plan.backend,
        shared=_shared(plan, earlier),
        directories=tuple(dict.fromkeys((*(earlier.directories if earlier else ()), *missing))),
    )


def _shared(plan: Plan, earlier: Record | None) -> tuple[tuple[str, bool], ...]:
    """Return the user's files with rules of ours, and whether each was there before the first arming."""
    known = dict(earlier.shared) if earlier else {}
    return tuple({**{each.path: each.before is not None for each in plan.shared}, **known}.items())


def digest_of(policy: Policy) -> str:
    """Return a checksum of what a policy says; where the names of its endpoints lead to is part of it, since when is not."""
    tunnels = tuple(replace(each, config=each.config and str(Path(each.config).absolute())) for each in policy.tunnels)
    return hashlib.sha256(repr(replace(policy, tunnels=tunnels, pins=(), path="")).encode()).hexdigest()


def _as_written(policy: Policy, plan: Plan) -> Policy:
    """Return the policy as it will be read from now on: with the marks that arming wrote into the tunnels' configs."""
    marks = {each.path: mark_of_ours(each.after) for each in plan.configs}

    def written(tunnel: Tunnel) -> Tunnel:
        mark = marks.get(marked_file(tunnel))
        return replace(tunnel, fwmark=mark, fwmark_in_config=True, default_mark=DEFAULT_FWMARK) if mark else tunnel

    return replace(policy, tunnels=tuple(map(written, policy.tunnels)))


def _tagged(policy: Policy) -> Iterator[EditedConfig]:
    """Yield the files that hold our line, whenever it was written: an arming that was cut off has left no record of it."""
    for tunnel in policy.tunnels:
        path = marked_file(tunnel)
        if path and Path(path).exists() and TAG in Path(path).read_text(encoding="utf-8", errors="replace"):
            yield EditedConfig(str(tunnel.interface), path)


def marked_file(tunnel: Tunnel) -> str:
    """Return the path of the file that a tunnel gets its mark from; "" for one without a config."""
    return str(Path(place_of(tunnel.kind, tunnel.config)).absolute()) if tunnel.config else ""
