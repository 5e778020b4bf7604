"""nftables: one transaction for all of it, and the layer under IP."""

from __future__ import annotations

from pathlib import Path

from failshut.arming.backends import Compiled, Listing, WayBack
from failshut.arming.boot.generations import EGRESS_FILE, GUARD_FILE, LOCK_FILE
from failshut.arming.errors import ArmingError, from_nft
from failshut.emit.nft import emit, emit_by_device, stale_chains, stale_sets, without_set
from failshut.host.filter import nft
from failshut.lower import lower
from failshut.lower.egress import with_later
from failshut.lower.shut import guard
from failshut.model.backend import BackendName
from failshut.model.host import HostFacts
from failshut.model.plan import FileChange, Plan
from failshut.model.policy import Policy
from failshut.model.ruleset import Family, Ruleset, Table
from failshut.read.nft.text import read_text

_REMEDY = "nothing was changed; please report this with the policy"


class Nftables:
    """The lock as nft loads it."""

    name = BackendName.NFTABLES

    def listing(self) -> nft.Listing:
        """Return the lock's tables."""
        try:
            return nft.listing()
        except nft.NftError as error:
            raise from_nft(error, "the kernel's rules can't be read") from error

    def compiled(self, policy: Policy, facts: HostFacts, kernel: Listing) -> Compiled:
        """Compile the lock; where the kernel refuses the layer under IP, without it."""
        wanted, actual = lower(policy, facts), kernel.ruleset()
        text = emit(wanted, over=actual)
        refused = nft.check(text)
        if refused.ok:
            return Compiled(wanted, text, kernel.texts, under_ip=facts.egress)
        error = nft.NftError(refused)
        base, egress = base_and_egress(wanted)
        # The layer under IP is the only part that a kernel or a vanished device can refuse; without it the choke point still holds.
        fallback = emit(base, over=actual)
        is_answer = not (error.missing or error.permission or error.exhausted)
        if egress.tables and is_answer and nft.check(fallback).ok:
            reason = refused.err.strip().splitlines()[0] if refused.err.strip() else "no reason given"
            note = f"the layer under IP can't be loaded here, packets below IP are not held: {reason}"
            return Compiled(base, fallback, kernel.texts, (note,), under_ip=False)
        raise from_nft(error, "the lock does not load")

    def staged(self, policy: Policy, facts: HostFacts, wanted: Ruleset) -> dict[str, str]:
        """Return the lock in the two transactions of a boot, and the guard's."""
        base, egress = base_and_egress(wanted)
        return {
            LOCK_FILE: emit(base),
            EGRESS_FILE: emit_by_device(with_later(egress)),
            GUARD_FILE: emit_by_device(with_later(guard(policy, facts))),
        }

    def shared(self, policy: Policy, wanted: Ruleset) -> tuple[FileChange, ...]:
        """Return nothing: the lock's table is its own."""
        del policy, wanted
        return ()

    def read(self, plan: Plan) -> tuple[Ruleset, Ruleset]:
        """Return what the kernel holds with the transaction done to it, and the boot's files, as they are read."""
        texts = {Path(each.path).name: each.after for each in plan.staged}
        done = "\n".join((*plan.over, plan.text))
        return _read({"the transaction": done}), _read({name: texts[name] for name in (LOCK_FILE, EGRESS_FILE) if name in texts})

    def load(self, plan: Plan) -> None:
        """Load the transaction."""
        result = nft.load(plan.text)
        if not result.ok:
            raise from_nft(nft.NftError(result), "the lock could not be loaded")

    def put_back(self, before: Listing) -> None:
        """Load what was there before, unless it is there still."""
        now = self.listing()
        if now.texts != before.texts:
            loaded = nft.load(way_back(now.ruleset(), before))
            if not loaded.ok:
                raise from_nft(nft.NftError(loaded), "what was there before does not load")

    def way_back(self, wanted: Ruleset, before: Listing, directory: Path) -> WayBack:
        """Return one transaction."""
        return WayBack({"kernel.nft": way_back(wanted, before)}, (f"nft -f {directory}/kernel.nft",))

    def remove(self, listing: Listing) -> None:
        """Delete the tables in one transaction."""
        result = nft.load("".join(f"delete table {family} {name}\n" for family, name in listing.tables))
        if not result.ok:
            raise from_nft(nft.NftError(result), "the lock could not be removed")


def base_and_egress(wanted: Ruleset) -> tuple[Ruleset, Ruleset]:
    """Return the lock in the two transactions of a boot: on kernels before 6.16 a missing device refuses the whole second one."""
    egress = tuple(table for table in wanted.tables if table.family is Family.NETDEV)
    base = tuple(table for table in wanted.tables if table.family is not Family.NETDEV)
    return Ruleset(base), Ruleset(egress)


def way_back(now: Ruleset, before: Listing) -> str:
    """Return the transaction that brings `before` back from `now`, also when `now` was never loaded."""
    earlier = before.ruleset()
    known = [table for table in now.tables if earlier.table(table.family, table.name)]
    new = [table for table in now.tables if table not in known]
    lines = [
        *(f"flush table {table.family} {table.name}" for table in known),
        # Declared first, so that it can be deleted whether it is there or not.
        *(
            f"add chain {table.family} {table.name} {chain.name}\ndelete chain {table.family} {table.name} {chain.name}"
            for table in known
            for chain in stale_chains(table, earlier)
        ),
        *(
            without_set(table, each)
            for table in known
            for each in stale_sets(table, earlier)
            if each.name not in _sets_of(table, earlier)
        ),
        *(f"add table {table.family} {table.name}\ndelete table {table.family} {table.name}" for table in new),
    ]
    return "\n".join([*lines, *before.texts]) + "\n"


def _sets_of(table: Table, ruleset: Ruleset) -> frozenset[str]:
    found = ruleset.table(table.family, table.name)
    return frozenset(each.name for each in found.sets) if found else frozenset()


def _read(texts: dict[str, str]) -> Ruleset:
    readings = [read_text(text, name) for name, text in texts.items()]
    wrong = [finding for each in readings for finding in each.findings if finding.is_error]
    if wrong:
        raise ArmingError(f"what would be loaded can't be read back: {wrong[0].place}: {wrong[0].message}", help=_REMEDY)
    # A table that is only emptied stays without chains.
    return Ruleset(tuple(table for each in readings for table in each.ruleset.tables if table.chains))
