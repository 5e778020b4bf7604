"""Policy + machine + kernel → Plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from failshut import __version__
from failshut.arming import initramfs
from failshut.arming.boot import boot_changes
from failshut.arming.compare import canonical_text, difference, stale_chains
from failshut.arming.errors import ArmingError, from_nft
from failshut.arming.generations import (
    CURRENT,
    EGRESS_FILE,
    GUARD_FILE,
    LOCK_FILE,
    METRICS_FILE,
    OUTSIDE_FILE,
    PROGRAMS_FILE,
    ROUTING_FILE,
)
from failshut.arming.routing import kernel_rules, lines_of, routing_difference
from failshut.arming.state import ARMED_DIRECTORY, load_record
from failshut.arming.undo import read_text
from failshut.boot.artefacts import SYSCTLS
from failshut.boot.places import LOADER
from failshut.emit.metrics import emit_metrics
from failshut.emit.nft import emit, emit_by_device
from failshut.emit.routing import emit_routes, emit_rules
from failshut.emit.tunnel_marks import line_of, place_of, with_mark
from failshut.host import nft, openvpn, systemd
from failshut.host.sysctl import read_sysctl
from failshut.lower import lower
from failshut.lower.egress import with_later
from failshut.lower.routing import lower_routing
from failshut.lower.sets import known_programs
from failshut.lower.shut import guard
from failshut.lower.transport import mark_of
from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind
from failshut.model.marks import STAMP
from failshut.model.plan import FileChange, MarkChange, Plan, SysctlChange
from failshut.model.policy import Policy, Tunnel, TunnelKind
from failshut.model.routing import IpVersion, Routing
from failshut.model.ruleset import Family, Ruleset
from failshut.model.units import InterfaceName, Mark
from failshut.read.routing import KernelRule

HEADER = f"# Written by failshut {__version__} from {{policy}}. Do not edit: `failshut arm` writes it anew.\n"


def make_plan(policy: Policy, facts: HostFacts, kernel: Ruleset, directory: Path = ARMED_DIRECTORY) -> Plan:
    """Return what arming would do. Asks nft and the kernel whether the text would load. Raises `ArmingError` if it would not."""
    wanted, text, refusals = _loadable(lower(policy, facts), kernel)
    with_systemd = systemd.is_running()
    routing = lower_routing(policy, facts)
    rules = kernel_rules()
    if policy.initramfs:
        initramfs.must_be_possible()
    staged = tuple(_staged(wanted, guard(policy, facts), routing, policy, directory))
    boot = boot_changes(with_systemd=with_systemd, in_initramfs=policy.initramfs)
    canonical = canonical_text(wanted)
    return Plan(
        wanted=wanted,
        canonical=canonical,
        text=text,
        facts=facts,
        difference=difference(canonical_text(kernel), canonical),
        staged=staged,
        configs=tuple(_configs(policy, facts)),
        marks=tuple(_marks(policy, facts)),
        boot=boot,
        sysctls=tuple(_sysctls()),
        routing=routing_difference(rules, lines_of(routing)) if rules is not None else (),
        routes=routing if rules is not None else None,
        with_systemd=with_systemd,
        under_ip=facts.egress and not refusals,
        initramfs=policy.initramfs,
        rebuilds_initramfs=initramfs.is_outdated(policy.initramfs, (*staged, *boot)),
        notes=(*refusals, *_notes(policy, facts), *_unrouted(rules), *_left_out(facts, directory), *initramfs.notes(policy)),
    )


def base_and_egress(wanted: Ruleset) -> tuple[Ruleset, Ruleset]:
    """Return the lock in the two transactions of a boot: on kernels before 6.16 a missing device refuses the whole second one."""
    egress = tuple(table for table in wanted.tables if table.family is Family.NETDEV)
    base = tuple(table for table in wanted.tables if table.family is not Family.NETDEV)
    return Ruleset(base), Ruleset(egress)


def _loadable(wanted: Ruleset, kernel: Ruleset) -> tuple[Ruleset, str, tuple[str, ...]]:
    """Return the rules that this kernel takes, the very text that was checked, and what had to be left out."""
    text = emit(wanted, stale=stale_chains(kernel, wanted))
    refused = nft.check(text)
    if refused.ok:
        return wanted, text, ()
    error = nft.NftError(refused)
    base, egress = base_and_egress(wanted)
    # The layer under IP is the only part that a kernel or a vanished device can refuse; without it the choke point still holds.
    fallback = emit(base, stale=stale_chains(kernel, base))
    if egress.tables and not error.missing and not error.permission and nft.check(fallback).ok:
        reason = refused.err.strip().splitlines()[0] if refused.err.strip() else "no reason given"
        return base, fallback, (f"the layer under IP can't be loaded here, packets below IP are not held: {reason}",)
    raise from_nft(error, "the lock does not load")


def _left_out(facts: HostFacts, directory: Path) -> Iterator[str]:
    """Say which device the armed lock guards and the new one can't, because it is unplugged."""
    try:
        record = load_record(directory / CURRENT)
    except (OSError, ValueError):
        record = None
    away = [each for each in (record.guarded if record else ()) if each not in facts.underlay and each not in facts.tunnels]
    if away:
        yield f"{', '.join(away)} is not there now, and not in this lock: arm again when it is back, for the layer under IP"


def _notes(policy: Policy, facts: HostFacts) -> Iterator[str]:
    if not systemd.is_running():
        yield f"systemd does not run here: nothing loads the lock at boot but you, with `sh {LOADER}` before the network"
    if not facts.egress:
        yield "this kernel has no egress hook (Linux 5.16): packets below IP (AF_PACKET, macvlan, bridged guests) are not held"
    if facts.egress and facts.stamp == STAMP:
        yield "no secret to make the stamp of (machine-id, private key): a container with CAP_NET_RAW on macvlan can guess it"
    if not facts.underlay:
        yield "there is no underlay device now: arm again when one is there, for the layer under IP and inbound services"
    if _others_may_write(Path(policy.path)):
        yield f"{policy.path} can be changed by others than root: whoever can write it decides what may leave"
    yield from _tunnel_notes(policy, facts)


def _tunnel_notes(policy: Policy, facts: HostFacts) -> Iterator[str]:
    for tunnel in policy.tunnels:
        live = facts.tunnels.get(tunnel.interface)
        if live and live.running and tunnel.kind is TunnelKind.OPENVPN:
            yield from _openvpn_notes(tunnel, live, mark_of(tunnel, facts))
        elif live and live.running and live.kind is WireGuardKind.UNKNOWN:
            yield f"{tunnel.interface} is neither WireGuard nor a tun device: whatever it is, everything may leave by it"
        if tunnel.fwmark and live and live.fwmark and live.fwmark != tunnel.fwmark:
            yield (
                f"{tunnel.interface} runs with mark {live.fwmark}, the policy says {tunnel.fwmark}: "
                f"the running tunnel is cut until it is restarted"
            )
        if tunnel.config is None and not tunnel.fwmark:
            yield f"{tunnel.interface} has no config file: nothing gives it its mark {mark_of(tunnel, facts)} back after a restart"


def _openvpn_notes(tunnel: Tunnel, live: LiveTunnel, mark: Mark) -> Iterator[str]:
    if live.kind is WireGuardKind.UNKNOWN:
        yield f"{tunnel.interface} is carried by the kernel for OpenVPN: its packets may be refused; add disable-dco to its config"
    if live.fwmark is None:
        running = openvpn.running(str(tunnel.interface))
        how = f": systemctl restart {running.unit}" if running and running.unit else ""
        yield f"{tunnel.interface} runs without the mark {mark}: the running tunnel is cut until OpenVPN is restarted{how}"


def _unrouted(rules: Collection[KernelRule] | None) -> Iterator[str]:
    if rules is None:
        yield "ip does not list the routing rules: they stay as they are, and an injected route can starve the tunnel"


def _staged(wanted: Ruleset, guarding: Ruleset, routing: Routing, policy: Policy, directory: Path) -> Iterator[FileChange]:
    base, egress = base_and_egress(wanted)
    head = HEADER.format(policy=policy.path) + "\n"
    texts = {
        LOCK_FILE: emit(base),
        EGRESS_FILE: emit_by_device(with_later(egress)),
        GUARD_FILE: emit_by_device(with_later(guarding)),
    }
    for family in IpVersion:
        texts[f"{ROUTING_FILE}{family}"] = emit_rules(routing.of(family))
        texts[f"{OUTSIDE_FILE}{family}"] = emit_routes(routing.of(family))
    texts[PROGRAMS_FILE] = "".join(f"{name} {group}\n" for name, group in known_programs(policy))
    texts[METRICS_FILE] = emit_metrics(policy.metrics)
    for name, text in texts.items():
        path = directory / CURRENT / name
        yield FileChange(str(path), read_text(path), head + text)


def _sysctls() -> Iterator[SysctlChange]:
    for path, value in SYSCTLS:
        before = read_sysctl(path)
        if before not in (None, value):
            yield SysctlChange(path, str(before), value)


def _configs(policy: Policy, facts: HostFacts) -> Iterator[FileChange]:
    """Yield the files that must say the mark, so that it is there from the first handshake after every restart."""
    for tunnel in policy.tunnels:
        if tunnel.config is None or tunnel.fwmark_in_config:
            continue
        path = Path(place_of(tunnel.kind, tunnel.config)).absolute()
        change = _marked(tunnel, path, mark_of(tunnel, facts))
        if change.is_change:
            yield change


def _marked(tunnel: Tunnel, path: Path, mark: Mark) -> FileChange:
    before = read_text(path)
    is_drop_in = str(path) != str(Path(tunnel.config or "").absolute())
    if before is None and not is_drop_in:
        raise ArmingError(f"{path} is gone", help="check `config` in the policy, then run it again")
    if not before and not is_drop_in:
        remedy = f"add this line yourself: {line_of(tunnel.kind, mark)}"
        raise ArmingError(f"{path} is not UTF-8, and is not edited for that", help=remedy)
    return FileChange(str(path), before, with_mark(tunnel.kind, before or "", mark))


def _marks(policy: Policy, facts: HostFacts) -> Iterator[MarkChange]:
    for tunnel in policy.tunnels:
        live = facts.tunnels.get(tunnel.interface)
        # The mark of a program's own socket is the program's.
        if live and live.running and live.fwmark is None and tunnel.kind is not TunnelKind.OPENVPN:
            yield MarkChange(InterfaceName(tunnel.interface), None, mark_of(tunnel, facts))


def _others_may_write(path: Path) -> bool:
    try:
        seen = path.stat()
    except OSError:
        return False
    return seen.st_uid != 0 or bool(seen.st_mode & 0o022)
