"""The lock for an image: what arming would leave on disk, written below a directory; no kernel is asked, and nothing is loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from failshut.arming.armed.record import EditedConfig, Record
from failshut.arming.backends import backend
from failshut.arming.boot.generations import CURRENT, LAST_GOOD, point, publish, stage
from failshut.arming.boot.install import tidy
from failshut.arming.errors import ArmingError
from failshut.arming.kernel.compare import canonical_text
from failshut.arming.plan import config_changes, staged_files
from failshut.arming.proof import must_be_proved
from failshut.arming.recording import marked_file, record_of
from failshut.arming.undo import unwritable, write
from failshut.boot.artefacts import BootFile, initramfs_files, loader, router, systemd_files, wanted_by
from failshut.boot.places import ARMED_DIRECTORY, RECORD_FILE, UNIT_DIRECTORY, UNITS, WATCHING_UNITS
from failshut.emit.nft import emit
from failshut.host.files import PRIVATE_FILE, write_atomically
from failshut.host.filter import nft
from failshut.host.network.probe import probe
from failshut.host.run import find
from failshut.lower import lower
from failshut.lower.routing import lower_routing
from failshut.model.backend import BackendName
from failshut.model.host import HostFacts, WireGuardKind
from failshut.model.marks import STAMP
from failshut.model.plan import FileChange, Plan
from failshut.model.policy import Policy, TunnelKind
from failshut.model.progress import Report
from failshut.model.units import InterfaceName

# Where a package and an administrator put the program.
_PROGRAMS = ("usr/bin/failshut", "usr/local/bin/failshut")


def write_image(policy: Policy, devices: Iterable[InterfaceName], root: Path, report: Report) -> tuple[Record, tuple[str, ...]]:
    """Write below `root` what a machine needs to boot locked. Returns the record, and the paths below root. Raises `ArmingError`.

    The lock is proved first, as by arming. `devices` are the underlay devices that get the layer under IP.
    """
    if policy.backend is not BackendName.NFTABLES:
        raise ArmingError(
            "an image's lock is nftables'", help="`failshut render iptables -o DIRECTORY` writes rules.v4 and rules.v6"
        )
    facts = _facts(policy, tuple(devices))
    plan = _plan(policy, facts, watched=any((root / each).exists() for each in _PROGRAMS))
    report("proving that nothing leaks but what the policy allows")
    must_be_proved(policy, plan, report)
    directory = root / ARMED_DIRECTORY.relative_to("/")
    record = replace(
        record_of(policy, plan, nft.Listing(), directory), configs=tuple(_edited(policy, plan)), audit="proved", inputs=()
    )
    try:
        # What is there already is not undone: an image is thrown away when it fails.
        with contextlib.ExitStack() as undo:
            write((replace(each, path=f"{root}/{each.path.lstrip('/')}") for each in (*plan.configs, *plan.boot)), undo)
            undo.pop_all()
        links = tuple(_enable(plan.boot, root))
        generations = _publish(plan, record, directory)
    except OSError as error:
        raise unwritable(root, error) from error
    below = (each.path.lstrip("/") for each in (*plan.configs, *plan.boot))
    return record, (*below, *links, *(str(each.relative_to(root)) for each in generations))


def _publish(plan: Plan, record: Record, directory: Path) -> Iterator[Path]:
    """Write the generation twice, as a first arming does: the second copy is for the day on which the first is damaged."""
    files = {Path(each.path).name: each.after for each in plan.staged}
    written = []
    for link in (LAST_GOOD, CURRENT):
        staged = stage(directory, files)
        write_atomically(staged / RECORD_FILE, record.to_json(), mode=PRIVATE_FILE)
        written.append(publish(staged))
        point(directory, link, written[-1].name)
    tidy(directory)
    return iter(written)


def _plan(policy: Policy, facts: HostFacts, *, watched: bool) -> Plan:
    """Return what arming would do on a machine that has nothing of it yet."""
    wanted, routing = lower(policy, facts), lower_routing(policy, facts)
    texts = backend(policy.backend).staged(policy, facts, wanted)
    # Of a machine that has none of the files: what the builder's own has is not the image's.
    staged = (replace(each, before=None) for each in staged_files(texts, routing, policy))
    units = (each for each in systemd_files() if watched or not _watches(each))
    boot = (loader(), router(), *units, *(initramfs_files() if policy.initramfs else ()))
    return Plan(
        wanted=wanted,
        canonical=canonical_text(wanted),
        text=emit(wanted),
        facts=facts,
        difference=(),
        staged=tuple(staged),
        # A copy below another directory is as private as the config itself.
        configs=tuple(replace(each, mode=PRIVATE_FILE) for each in config_changes(policy, facts)),
        marks=(),
        boot=tuple(FileChange(each.path, None, each.text, each.mode) for each in boot),
        routes=routing,
        with_systemd=True,
        initramfs=policy.initramfs,
        notes=tuple(_notes(policy, facts, watched=watched)),
    )


def _edited(policy: Policy, plan: Plan) -> Iterator[EditedConfig]:
    changed = {each.path for each in plan.configs}
    for tunnel in policy.tunnels:
        path = marked_file(tunnel)
        if path in changed:
            yield EditedConfig(str(tunnel.interface), path)


def _facts(policy: Policy, devices: tuple[InterfaceName, ...]) -> HostFacts:
    """Return what is known of the machine to come: its users, who carries its tunnels, and no device but those named."""
    facts = probe(policy)
    kinds = {each.interface: each.kind for each in policy.tunnels}
    tunnels = {
        name: replace(live, kind=_carried_by(kinds.get(name), live.kind), fwmark=None, addresses=(), running=False)
        for name, live in facts.tunnels.items()
    }
    return replace(facts, underlay=devices, tunnels=tunnels, egress=True, uplinked=(), opened=policy.initramfs)


def _carried_by(whose: TunnelKind | None, here: WireGuardKind) -> WireGuardKind:
    """Return who will carry a tunnel: the image's own kernels say it, not the builder's."""
    if whose is None or whose is TunnelKind.OPENVPN or whose.is_kernels:
        return here
    modules = Path("/lib/modules")
    if any(modules.glob("*/kernel/drivers/net/wireguard/wireguard.ko*")):
        return WireGuardKind.KERNEL
    has_program = find("wireguard-go") or find("boringtun")
    return WireGuardKind.USERSPACE if has_program and not any(modules.glob("*/kernel")) else WireGuardKind.KERNEL


def _notes(policy: Policy, facts: HostFacts, *, watched: bool) -> Iterator[str]:
    if not facts.underlay:
        yield "no --device: packets below IP (AF_PACKET, macvlan) are held only after `failshut arm` on the machine"
    if facts.stamp == STAMP:
        yield "no secret to make the stamp of (machine-id, private key): `failshut arm` on the machine gives it its own"
    if not watched:
        yield "failshut is not in the image: the lock holds without it, and nothing watches it"
    if policy.initramfs:
        yield "the initramfs must be written anew in the image: update-initramfs -u -k all"


def _watches(file: BootFile) -> bool:
    return file.path.startswith(UNIT_DIRECTORY) and Path(file.path).name.startswith(("failshut-monitor", "failshut-refresh"))


def _enable(files: Iterable[FileChange], root: Path) -> Iterator[str]:
    """Make the links that `systemctl enable` would make; yield them."""
    for each in files:
        unit = Path(each.path)
        if str(unit.parent) != UNIT_DIRECTORY or unit.name not in (*UNITS, *WATCHING_UNITS):
            continue
        for target in wanted_by(each.after):
            link = root / UNIT_DIRECTORY.lstrip("/") / f"{target}.wants" / unit.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(each.path)
            yield str(link.relative_to(root))
