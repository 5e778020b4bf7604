"""`iptables-save` and `ip6tables-save`, as a program wrote them or a hand: the entry."""

from __future__ import annotations

from dataclasses import replace

from failshut.model.finding import Code
from failshut.model.ruleset import Engine, Family, Ruleset, Table
from failshut.read.iptables.document import parse
from failshut.read.iptables.ipset import IpSets
from failshut.read.iptables.lowering import table, unlisted
from failshut.read.iptables.remarks import Remarks
from failshut.read.memory import nothing_to_collect
from failshut.read.reading import Reading


def read_save(text: str, name: str, family: Family, engine: Engine | None = None, sets: IpSets | None = None) -> Reading:
    """Return the rules of `text`, read from the file `name`, for `Family.IP` or `Family.IP6`.

    Never raises for any text: what iptables-restore would refuse is an error among the findings. What is not understood is in the
    rules as `UnknownMatch` or `Unknown`. `engine` is taken from the text's header when it is not said, and is else iptables-nft.
    `sets` are what `-m set` asks for.
    """
    lines = text.split("\n")
    remarks = Remarks(name, lines)
    for at, line in enumerate(lines, start=1):
        if "\0" in line:
            message = "this is no text: there is a zero byte in it"
            remarks.error(Code.RULES_UNREADABLE, message, (at, line.index("\0") + 1, 1), "give what `iptables-save` writes")
            return Reading(Ruleset(), remarks.all())
    _endings(lines, remarks)
    version = 6 if family is Family.IP6 else 4
    with nothing_to_collect():
        document = parse(lines, version, remarks)
        chosen = engine or document.engine or Engine.IPTABLES_NFT
        tables = [table(each, family, chosen, remarks, sets or IpSets()) for each in document.tables]
    for table_name, said in document.unlisted.items():
        beside = unlisted(table_name, said, remarks)
        known = next((each for each in tables if each.name == table_name), None)
        tables = [replace(each, chains=(*each.chains, *beside)) if each is known else each for each in tables]
        tables += [] if known else [Table(family, table_name, beside, engine=chosen)]
    return Reading(Ruleset(tuple(tables)), remarks.all(), tuple(remarks.approximations))


def _endings(lines: list[str], remarks: Remarks) -> None:
    """Take away what Windows ends its lines with, and say so."""
    first = next((at for at, line in enumerate(lines, start=1) if line.endswith("\r")), 0)
    if first:
        message = "lines end in CR LF: iptables-restore refuses such a COMMIT, and takes the CR for part of a value"
        remarks.warning(Code.RULES_UNCLEAR, message, (first, len(lines[first - 1]), 1), "convert it with dos2unix")
        lines[:] = [line.removesuffix("\r") for line in lines]
