"""iptables: chains of our own in both families, a transaction for each table, and the files of netfilter-persistent."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

from failshut.arming.backends import Compiled, Listing, WayBack
from failshut.arming.boot.generations import IPTABLES_FILE
from failshut.arming.errors import ArmingError
from failshut.arming.undo import read_text
from failshut.boot.places import PERSISTENT_RULES, PERSISTENT_UNIT
from failshut.emit.iptables import CantSayError, body_text, complete_text, live_text, merged_text
from failshut.host.filter import iptables
from failshut.host.filter.iptables import FAMILIES, IptablesError, program
from failshut.host.service import systemd
from failshut.lower.iptables import left_out, lower_iptables
from failshut.model.backend import BackendName
from failshut.model.finding import Finding
from failshut.model.host import HostFacts
from failshut.model.iptables import Kind
from failshut.model.plan import FileChange, Plan
from failshut.model.policy import Policy
from failshut.model.ruleset import Family, Ruleset
from failshut.read.iptables import read_save
from failshut.read.iptables.own import standing

_VERSIONS = {Family.IP: "4", Family.IP6: "6"}
_UNCHANGED = "nothing was changed"


class Iptables:
    """The lock as iptables-restore loads it."""

    name = BackendName.IPTABLES

    def listing(self) -> iptables.Listing:
        """Return what iptables-save says."""
        try:
            return iptables.listing()
        except IptablesError as error:
            raise _refused(error, "the kernel's rules can't be read") from error

    def compiled(self, policy: Policy, facts: HostFacts, kernel: Listing) -> Compiled:
        """Compile the lock, and have a kernel without any other rules take it."""
        del kernel
        _one_engine()
        wanted = lower_iptables(policy, facts)
        try:
            refused = iptables.trial(wanted)
        except CantSayError as error:
            raise ArmingError(f"iptables can't say this lock: {error}", help=_UNCHANGED) from error
        if refused:
            raise _refused(IptablesError(refused), "the lock does not load")
        text = "".join(complete_text(wanted, family) for family in FAMILIES)
        return Compiled(
            wanted,
            text,
            notes=tuple(f"iptables has no word for {each}" for each in left_out(tailscale=policy.tailscale is not None)),
            under_ip=False,
        )

    def staged(self, policy: Policy, facts: HostFacts, wanted: Ruleset) -> dict[str, str]:
        """Return our chains for both families; the loader sees to the jumps."""
        del policy, facts
        return {f"{IPTABLES_FILE}{_VERSIONS[family]}": body_text(wanted, family) for family in FAMILIES}

    def shared(self, policy: Policy, wanted: Ruleset) -> tuple[FileChange, ...]:
        """Return netfilter-persistent's files, where it is there to load them, with our chains among the user's rules."""
        del policy
        return tuple(_persistent(family, wanted) for family in FAMILIES) if systemd.has_unit(PERSISTENT_UNIT) else ()

    def read(self, plan: Plan) -> tuple[Ruleset, Ruleset]:
        """Return the rules as they are read; a boot loads the same ones."""
        readings = [read_save(complete_text(plan.wanted, family), f"rules.v{_VERSIONS[family]}", family) for family in FAMILIES]
        wrong = [finding for each in readings for finding in each.findings if finding.is_error]
        if wrong:
            raise ArmingError(f"what would be loaded can't be read back: {wrong[0].place}: {wrong[0].message}", help=_UNCHANGED)
        read = Ruleset(tuple(table for each in readings for table in each.ruleset.tables))
        return read, read

    def load(self, plan: Plan) -> None:
        """Load the steps, each over what the kernel has by then."""
        _carry_out(plan.wanted, "the lock could not be loaded")

    def put_back(self, before: Listing) -> None:
        """Make our part of the kernel what it was."""
        now = self.listing()
        if now.texts != before.texts:
            try:
                for step in iptables.over(before.ruleset(), now.saves):
                    iptables.must(iptables.carry_out(step))
            except IptablesError as error:
                raise _refused(error, "what was there before does not load") from error

    def way_back(self, wanted: Ruleset, before: Listing, directory: Path) -> WayBack:
        """Return a text for each family."""
        files, commands = {}, []
        for family in FAMILIES:
            of_family = Ruleset(tuple(each for each in wanted.tables if each.family is family))
            name = f"kernel.v{_VERSIONS[family]}"
            files[name] = live_text(before.ruleset(), family, standing(of_family))
            commands.append(f"{program(family, Kind.DEFAULT, 'restore')} -w 5 --noflush <{quote(str(directory / name))}")
        return WayBack(files, tuple(commands))

    def remove(self, listing: Listing) -> None:
        """Take the jumps and the chains away; every other rule stays."""
        del listing
        _carry_out(Ruleset(), "the lock could not be removed")


def _carry_out(wanted: Ruleset, what: str) -> None:
    try:
        for step in iptables.steps(wanted, iptables.saved()):
            iptables.must(iptables.carry_out(step))
    except IptablesError as error:
        raise _refused(error, what) from error


def _persistent(family: Family, wanted: Ruleset) -> FileChange:
    """Return a user's file with our chains in it. Raises `ArmingError` for one that does not load, or that is not root's."""
    path = Path(PERSISTENT_RULES[_VERSIONS[family]])
    before = read_text(path)
    if before is not None:
        _must_be_roots(path)
        _must_load(path, before, family)
    after = merged_text(before or "", wanted, family)
    return FileChange(str(path), before, after, 0o640)


def _must_be_roots(path: Path) -> None:
    seen = path.stat()
    stranger = seen.st_uid != os.geteuid()
    if stranger or seen.st_mode & 0o022:
        who = f"belongs to user {seen.st_uid}" if stranger else "can be written by others"
        help_ = f"`chown root: {path}; chmod go-w {path}`"
        raise ArmingError(f"{path} {who}: who can change it decides what a boot loads", help=help_)


def _must_load(path: Path, text: str, family: Family) -> None:
    """Have the reader and iptables itself look at a file, with the place of what is wrong."""
    found = [each for each in read_save(text, str(path), family).findings if each.is_error]
    if found:
        raise ArmingError(f"{path} does not load: {_placed(found[0])}", help=found[0].help or f"mend it; {_UNCHANGED}")
    refused = iptables.refusal(text, family)
    if refused:
        raise ArmingError(f"{path} does not load: {refused.complaint}", help=f"mend it; {_UNCHANGED}")


def _placed(found: Finding) -> str:
    return f"{found.place}: {found.message}"


def _one_engine() -> None:
    """Refuse a machine on which both engines of iptables have rules: they are two firewalls, and each program sees one."""
    other = iptables.other_engine()
    if other and any(line.startswith("-A") for each in FAMILIES for line in iptables.rules_in(each, other)):
        raise ArmingError(
            f"both engines of iptables have rules: {program(Family.IP, Kind.DEFAULT, 'save')} does not show those of "
            f"{program(Family.IP, other, 'save')}",
            help=f"remove these (`{program(Family.IP, other, 'save')}` lists them), or use nftables",
        )


def _refused(error: IptablesError, what: str) -> ArmingError:
    if error.missing:
        return ArmingError("iptables is not installed", help="apt install iptables, or use nftables")
    return ArmingError(f"{what}: {error}", help="run it with sudo" if error.permission else _UNCHANGED, permission=error.permission)
