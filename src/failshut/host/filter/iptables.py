"""iptables, by its four programs: what the kernel holds, what is to be loaded over it, and in which order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from failshut.emit.iptables import complete_text, live_text, shown_text
from failshut.host.run import NOT_FOUND, Result, run
from failshut.lower.iptables.shut import everything
from failshut.model.iptables import Kind, Standing
from failshut.model.ruleset import Family, Ruleset
from failshut.read.counts import Counts
from failshut.read.iptables import read_save
from failshut.read.iptables.own import own, standing

# IPv6 first: from an open start its packets are the ones that nobody thinks of.
FAMILIES = (Family.IP6, Family.IP)
# In seconds: another program may be loading rules.
_PATIENCE = "5"
# What of ours ends a packet on its way out, with its counters.
_REFUSED = re.compile(r"^\[(\d+):(\d+)\] -A FAILSHUT-(LEAVING|OUTPUT|FORWARD)\b.* -j (?:DROP|REJECT)\b", re.MULTILINE)


class IptablesError(Exception):
    """iptables refused, or is missing; `permission` when it may not ask the kernel."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.complaint)
        self.missing = result.code == NOT_FOUND
        self.permission = "ermission denied" in result.err or "you must be root" in result.err


@dataclass(frozen=True, slots=True)
class Step:
    """One text to load for one family, without emptying anything else."""

    family: Family
    text: str

    def command(self, kind: Kind = Kind.DEFAULT) -> tuple[str, ...]:
        """Return the program that takes it on its standard input."""
        return (program(self.family, kind, "restore"), "-w", _PATIENCE, "--noflush")


@dataclass(frozen=True, slots=True)
class Listing:
    """What the kernel holds of ours, and all around it, in iptables-save's words."""

    saves: Mapping[Family, str] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[tuple[str, str], ...]:
        """The tables with something of ours."""
        return tuple((str(each.family), each.name) for each in self.ruleset().tables)

    @property
    def guarded(self) -> bool:
        """Nothing stands behind iptables' rules."""
        return False

    @property
    def json_texts(self) -> tuple[str, ...]:
        """There are no sets to list."""
        return ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Our part: while it says the same, nothing has changed."""
        return tuple(shown_text(each) for each in self.ruleset().canonical().tables)

    def ruleset(self) -> Ruleset:
        """Return our rules as the model has them."""
        return own_of(self.saves)


def listing(kind: Kind = Kind.DEFAULT) -> Listing:
    """Read what the kernel holds. Raises `IptablesError`."""
    return Listing(saved(kind))


def program(family: Family, kind: Kind, what: str) -> str:
    """Return a program's name: `ip6tables-legacy-restore`."""
    return f"{'iptables' if family is Family.IP else 'ip6tables'}{kind}-{what}"


def saved(kind: Kind = Kind.DEFAULT) -> dict[Family, str]:
    """Return what the kernel holds, by family. Raises `IptablesError`."""
    return {family: _answer(program(family, kind, "save")) for family in FAMILIES}


def rules_of(saves: Mapping[Family, str]) -> Ruleset:
    """Return the rules of what iptables-save said, others' too."""
    readings = [read_save(text, program(family, Kind.DEFAULT, "save"), family) for family, text in saves.items()]
    return Ruleset(tuple(table for each in readings for table in each.ruleset.tables))


def own_of(saves: Mapping[Family, str]) -> Ruleset:
    """Return our part of what iptables-save said."""
    return own(rules_of(saves))


def steps(ruleset: Ruleset, saves: Mapping[Family, str]) -> Iterator[Step]:
    """Yield what makes our chains those of `ruleset`, in the order in which it is to be loaded. Raises `CantSayError`.

    Where there was no lock, both families are shut first: no packet of one leaves while the other's rules load. Over a lock each
    table is changed in one transaction, and the one that refuses comes first. Without tables in `ruleset` all of ours goes.
    """
    now = {family: standing(_rules(saves, family)) for family in FAMILIES}
    if ruleset.tables and not all(_is_shut(each) for each in now.values()):
        shut = everything()
        for family in FAMILIES:
            yield Step(family, live_text(shut, family, _choke_point_alone(now[family])))
        now = {family: _with(each, shut, family) for family, each in now.items()}
    for family in FAMILIES:
        yield Step(family, live_text(ruleset, family, now[family]))


def trial(ruleset: Ruleset) -> Result | None:
    """Load the lock in a network namespace of its own; return the refusal, None when the kernel takes it.

    `iptables-restore --test` asks neither for modules nor for what the kernel thinks of a value.
    """
    for family in FAMILIES:
        text = complete_text(ruleset, family)
        restore = program(family, Kind.DEFAULT, "restore")
        for argv in ((restore, "--test"), ("unshare", "--net", restore)):
            result = run(argv, stdin=text)
            if not result.ok:
                return result
    return None


def refused() -> Counts:
    """Return how many packets our chains refused since they were filled; each rule of iptables counts."""
    results = (run((program(family, Kind.DEFAULT, "save"), "-c")) for family in FAMILIES)
    found = [each.groups() for result in results for each in _REFUSED.finditer(result.out)]
    packets = {where: sum(int(each[0]) for each in found if (each[2] == "FORWARD") is where) for where in (True, False)}
    size = {where: sum(int(each[1]) for each in found if (each[2] == "FORWARD") is where) for where in (True, False)}
    return Counts(packets[False], packets[True], local_bytes=size[False], forwarded_bytes=size[True])


def refusal(text: str, family: Family) -> Result | None:
    """Return why iptables-restore would refuse a file, None when it would not; changes nothing."""
    result = run((program(family, Kind.DEFAULT, "restore"), "--test"), stdin=text)
    return None if result.ok else result


def other_engine() -> Kind | None:
    """Return the engine that the machine's own programs are not of; None where it is not installed."""
    version = run((program(Family.IP, Kind.DEFAULT, "save"), "--version"))
    other = Kind.LEGACY if "nf_tables" in version.out else Kind.NFT
    return other if version.ok and run((program(Family.IP, other, "save"), "--version")).ok else None


def rules_in(family: Family, kind: Kind) -> tuple[str, ...]:
    """Return the lines of one engine's rules, without bringing it in where it is not: asking the older one for a table makes it."""
    names = Path(f"/proc/net/{'ip' if family is Family.IP else 'ip6'}_tables_names")
    if kind is Kind.LEGACY:
        try:
            if not names.read_text(encoding="utf-8").strip():
                return ()
        except OSError:
            return ()
    result = run((program(family, kind, "save"),))
    return tuple(result.out.splitlines()) if result.ok else ()


def over(ruleset: Ruleset, saves: Mapping[Family, str]) -> Iterator[Step]:
    """Yield what makes our chains those of `ruleset`, one step for each family."""
    for family in FAMILIES:
        yield Step(family, live_text(ruleset, family, standing(_rules(saves, family))))


def carry_out(step: Step, kind: Kind = Kind.DEFAULT) -> Result:
    """Load one step."""
    return run(step.command(kind), stdin=step.text)


def _choke_point_alone(standing_: Standing) -> Standing:
    """Return what is there, of mangle alone: that is all that shutting changes."""
    keep = ("mangle",)
    return Standing(
        {each: standing_.chains(each) for each in keep if standing_.chains(each)},
        {each: standing_.jumps(each) for each in keep if standing_.jumps(each)},
    )


def _rules(saves: Mapping[Family, str], family: Family) -> Ruleset:
    return rules_of({family: saves[family]})


def _is_shut(standing_: Standing) -> bool:
    """Whether our choke point is there."""
    return any(chain == "POSTROUTING" for chain, _ in standing_.jumps("mangle"))


def _with(standing_: Standing, ruleset: Ruleset, family: Family) -> Standing:
    """Return what is there once `ruleset`, which changes mangle alone, is loaded."""
    added = standing(own(Ruleset(tuple(each for each in ruleset.tables if each.family is family))))
    return replace(standing_, own={**standing_.own, **added.own}, to_own={**standing_.to_own, **added.to_own})


def must(result: Result) -> Result:
    """Return the answer. Raises `IptablesError` for a refusal."""
    if not result.ok:
        raise IptablesError(result)
    return result


def _answer(*argv: str) -> str:
    return must(run(argv)).out
