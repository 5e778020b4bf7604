"""Policy + machine + kernel → Plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from failshut import __version__
from failshut.arming.armed.record import readable_record
from failshut.arming.backends import Listing, backend, must_be_the_same
from failshut.arming.boot import initramfs
from failshut.arming.boot.generations import CURRENT, METRICS_FILE, OUTSIDE_FILE, PROGRAMS_FILE, ROUTING_FILE
from failshut.arming.boot.install import Boots, boot_changes
from failshut.arming.errors import ArmingError
from failshut.arming.kernel.compare import canonical_text, difference
from failshut.arming.kernel.routing import kernel_rules, lines_of, routing_difference
from failshut.arming.recording import marked_file
from failshut.arming.undo import read_text
from failshut.boot.artefacts import SYSCTLS
from failshut.boot.places import ARMED_DIRECTORY, LOADER
from failshut.emit.metrics import emit_metrics
from failshut.emit.routing import emit_routes, emit_rules
from failshut.emit.tunnel_marks import line_of, with_mark
from failshut.host.network.links import all_links, impostors, underlay_devices
from failshut.host.network.sysctl import read_sysctl
from failshut.host.service import systemd
from failshut.host.tunnels import openvpn
from failshut.lower.routing import lower_routing
from failshut.lower.sets import known_programs
from failshut.lower.transport import mark_of
from failshut.model.backend import BackendName
from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind
from failshut.model.marks import STAMP
from failshut.model.plan import FileChange, MarkChange, Plan, SysctlChange
from failshut.model.policy import Policy, Tunnel, TunnelKind
from failshut.model.routing import IpVersion, Routing
from failshut.model.units import InterfaceName, Mark
from failshut.read.routing import KernelRule

HEADER = f"# Written by failshut {__version__} from {{policy}}. Do not edit: `failshut arm` writes it anew.\n"


def make_plan(policy: Policy, facts: HostFacts, kernel: Listing) -> Plan:
    """Return what arming would do. Asks the tool and the kernel whether it would load. Raises `ArmingError` if it would not."""
    _must_be_free(policy)
    links = all_links()
    _must_be_surveyed(policy, facts, links)
    _must_be_tunnels(policy, links)
    tool = backend(policy.backend)
    compiled = tool.compiled(policy, facts, kernel)
    wanted = compiled.wanted
    with_systemd = systemd.is_running()
    routing = lower_routing(policy, facts)
    rules = kernel_rules()
    boots = Boots(with_systemd, policy.initramfs, policy.backend)
    early = boots.in_initramfs
    if early:
        initramfs.must_be_possible()
    staged = tuple(staged_files(tool.staged(policy, facts, wanted), routing, policy))
    boot = boot_changes(boots)
    canonical = canonical_text(wanted)
    return Plan(
        wanted=wanted,
        canonical=canonical,
        text=compiled.text,
        over=compiled.over,
        facts=facts,
        difference=difference(canonical_text(kernel.ruleset()), canonical),
        staged=staged,
        configs=tuple(config_changes(policy, facts)),
        marks=tuple(_marks(policy, facts)),
        boot=boot,
        sysctls=tuple(_sysctls()),
        routing=routing_difference(rules, lines_of(routing)) if rules is not None else (),
        routes=routing if rules is not None else None,
        with_systemd=with_systemd,
        under_ip=compiled.under_ip,
        backend=policy.backend,
        shared=tool.shared(policy, wanted),
        initramfs=early,
        rebuilds_initramfs=initramfs.is_outdated(early, (*staged, *boot)),
        notes=(*compiled.notes, *_notes(policy, facts), *_unrouted(rules), *_left_out(facts), *initramfs.notes(policy)),
    )


def _must_be_surveyed(policy: Policy, facts: HostFacts, links: list[dict[str, Any]]) -> None:
    """Raise `ArmingError` where the devices are not known: without an underlay there would be no layer under IP."""
    # Loopback is everywhere.
    if not links or (not facts.underlay and underlay_devices(links, policy.interfaces, policy.forward.bridges)):
        message = "the machine does not say which network devices it has"
        raise ArmingError(message, help="`ip link` must work: is iproute2 installed, and memory left? Then run it again")


def _must_be_tunnels(policy: Policy, links: list[dict[str, Any]]) -> None:
    """Raise `ArmingError` for a device that only has a tunnel's name."""
    configs = {str(each.interface): each.config for each in policy.tunnels if each.is_routed}
    for name in impostors(links, configs):
        message = f"{name} is a card or modem, and not the tunnel of {configs[name]}: everything would leave by it"
        raise ArmingError(message, help=f"give it another name: ip link set {name} down; ip link set {name} name eth9")


def _left_out(facts: HostFacts) -> Iterator[str]:
    """Say which device the armed lock guards and the new one can't, because it is unplugged."""
    record = readable_record(ARMED_DIRECTORY / CURRENT)
    away = [each for each in (record.guarded if record else ()) if each not in facts.underlay and each not in facts.tunnels]
    if away:
        yield f"{', '.join(away)} is not there now, and not in this lock: arm again when it is back, for the layer under IP"


def _notes(policy: Policy, facts: HostFacts) -> Iterator[str]:
    if not systemd.is_running():
        yield f"systemd does not run here: nothing loads the lock at boot but you, with `sh {LOADER}` before the network"
    if not facts.egress and policy.backend is BackendName.NFTABLES:
        yield "this kernel has no egress hook (Linux 5.16): packets below IP (AF_PACKET, macvlan, bridged guests) are not held"
    if facts.egress and facts.stamp == STAMP and policy.backend is BackendName.NFTABLES:
        yield "no secret to make the stamp of (machine-id, private key): a container with CAP_NET_RAW on macvlan can guess it"
    if not facts.underlay:
        yield "there is no underlay device now: arm again when one is there, for the layer under IP and inbound services"
    if _others_may_write(Path(policy.path)):
        yield f"{policy.path} can be changed by others than root: whoever can write it decides what may leave"
    yield from _tunnel_notes(policy, facts)


def _tunnel_notes(policy: Policy, facts: HostFacts) -> Iterator[str]:
    for tunnel in policy.tunnels:
        live, mark = facts.tunnels.get(tunnel.interface), mark_of(tunnel, facts)
        if live and live.running and tunnel.kind is TunnelKind.OPENVPN:
            yield from _openvpn_notes(tunnel, live, mark)
        elif live and live.running and live.kind is WireGuardKind.UNKNOWN:
            yield f"{tunnel.interface} is neither WireGuard nor a tun device: whatever it is, everything may leave by it"
        if live and live.fwmark and live.fwmark != mark:
            why = "the policy says" if tunnel.fwmark else "as another tunnel does, and is given"
            yield f"{tunnel.interface} runs with mark {live.fwmark}, {why} {mark}: the running tunnel is cut until it is restarted"
        if tunnel.config is None and not tunnel.fwmark:
            yield f"{tunnel.interface} has no config file: nothing gives it its mark {mark} back after a restart"


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


def _must_be_free(policy: Policy) -> None:
    """Raise `ArmingError` where the lock that is armed is the other tool's."""
    record = readable_record(ARMED_DIRECTORY / CURRENT)
    if record:
        must_be_the_same(policy.backend, record.backend)


def staged_files(texts: dict[str, str], routing: Routing, policy: Policy) -> Iterator[FileChange]:
    """Yield the sealed files of a boot: the texts of the tool, and what every lock has besides."""
    head = HEADER.format(policy=policy.path) + "\n"
    texts = dict(texts)
    for family in IpVersion:
        own = routing.of(family)
        texts[f"{ROUTING_FILE}{family}"] = emit_rules(own)
        texts[f"{OUTSIDE_FILE}{family}"] = emit_routes(own)
    texts[PROGRAMS_FILE] = "".join(f"{name} {group}\n" for name, group in known_programs(policy))
    texts[METRICS_FILE] = emit_metrics(policy.metrics)
    for name, text in texts.items():
        path = ARMED_DIRECTORY / CURRENT / name
        yield FileChange(str(path), read_text(path), head + text)


def _sysctls() -> Iterator[SysctlChange]:
    for path, value in SYSCTLS:
        before = read_sysctl(path)
        if before not in (None, value):
            yield SysctlChange(path, str(before), value)


def config_changes(policy: Policy, facts: HostFacts) -> Iterator[FileChange]:
    """Yield the files that must say the mark, so that it is there from the first handshake after every restart."""
    for tunnel in policy.tunnels:
        if tunnel.config is None or tunnel.fwmark_in_config:
            continue
        change = _marked(tunnel, Path(marked_file(tunnel)), mark_of(tunnel, facts))
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
