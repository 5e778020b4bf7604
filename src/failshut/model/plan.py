"""What arming would do, as data: shown by `plan`, carried out by `arm`, so that the two can't differ."""

from __future__ import annotations

from dataclasses import dataclass, field

from failshut.model.backend import BackendName
from failshut.model.host import HostFacts
from failshut.model.routing import Routing
from failshut.model.ruleset import Ruleset
from failshut.model.units import InterfaceName, Mark


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file to be written: its path, what it holds now (None: it is not there) and what it shall hold."""

    path: str
    before: str | None
    after: str
    # For a file that is not there yet; an existing one keeps its own.
    mode: int = 0o644

    @property
    def is_change(self) -> bool:
        """Whether writing it would change a byte."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class MarkChange:
    """A running tunnel that must be given the mark by which the lock knows its packets."""

    interface: InterfaceName
    before: Mark | None
    after: Mark


@dataclass(frozen=True, slots=True)
class SysctlChange:
    """A kernel setting, by its path under /proc/sys, that must have another value."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """From the kernel's state to the wanted one.

    `canonical` is the wanted rules' one text, whatever tool lists them; `text` the transaction, byte for byte what is loaded, made
    for the machine of `facts` and a kernel that holds the tables of `over`; `difference` a unified diff of the rules, empty when
    the kernel holds them already. `routing` is one of the routing rules, and `routes` what they shall be; None
    where `ip` can't set them. `staged` are the sealed files that a boot loads, `boot` the loader and the units that load them.
    `under_ip` says whether this kernel takes the layer under IP, `with_systemd` whether systemd is there to load the lock at boot;
    `initramfs` whether the initramfs shall load it too, `rebuilds_initramfs` whether it must be written anew for that, or for the
    opposite; `notes` what the user must know before saying yes.
    """

    wanted: Ruleset
    canonical: str
    text: str
    facts: HostFacts
    difference: tuple[str, ...]
    staged: tuple[FileChange, ...]
    configs: tuple[FileChange, ...]
    marks: tuple[MarkChange, ...]
    boot: tuple[FileChange, ...] = ()
    sysctls: tuple[SysctlChange, ...] = ()
    routing: tuple[str, ...] = ()
    routes: Routing | None = None
    with_systemd: bool = False
    under_ip: bool = True
    initramfs: bool = False
    rebuilds_initramfs: bool = False
    notes: tuple[str, ...] = field(default=())
    backend: BackendName = BackendName.NFTABLES
    # The user's own files that get rules of ours among theirs.
    shared: tuple[FileChange, ...] = ()
    over: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[FileChange, ...]:
        """Every file."""
        return self.configs + self.shared + self.staged + self.boot

    @property
    def is_change(self) -> bool:
        """Whether carrying it out would change anything."""
        written = any(each.is_change for each in self.files)
        return bool(self.difference or self.routing or self.marks or self.sysctls or written or self.rebuilds_initramfs)
