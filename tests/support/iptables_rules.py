"""Rules of iptables for tests: reading one, and running the real programs in a network namespace of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from amount import thorough
from failshut.model.ruleset import Family, Rule
from failshut.read.iptables import read_save
from failshut.read.reading import Reading

CHAINS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}


def save(*lines: str, table: str = "filter") -> str:
    """Return a whole table of these lines."""
    declared = [f":{chain} ACCEPT [0:0]" for chain in CHAINS[table]]
    return "\n".join([f"*{table}", *declared, *lines, "COMMIT", ""])


def read(*lines: str, table: str = "filter", family: Family = Family.IP) -> Reading:
    """Read a table of these lines."""
    return read_save(save(*lines, table=table), "rules", family)


def rules(line: str, table: str = "filter", family: Family = Family.IP) -> tuple[Rule, ...]:
    """Return the rules that one line makes, in the table and chain it names. There must be nothing wrong with it."""
    reading = read(line, table=table, family=family)
    assert reading.findings == (), reading.findings
    chain = reading.ruleset.tables[0].chain(line.split()[line.split().index("-A") + 1])
    assert chain is not None
    return chain.rules


# A network namespace of its own, so that nobody's rules but these are touched. Without root it takes a user namespace too, which
# has one user: the kernel then refuses rules about others.
ALONE = ("unshare", "--net") if os.geteuid() == 0 else ("unshare", "--map-root-user", "--net")


@dataclass(frozen=True)
class Program:
    """One of the four iptables of a Debian machine."""

    family: Family
    engine: str

    @property
    def name(self) -> str:
        """Its name on PATH without `-restore` or `-save`."""
        return f"{'iptables' if self.family is Family.IP else 'ip6tables'}-{self.engine}"

    def load(self, *texts: str) -> list[str | None]:
        """Load each text in a namespace of its own and return what the save says; None where the program refuses."""
        script = "\n".join(
            f"unshare --net sh -c '{self.name}-restore && {self.name}-save && echo \"# loaded\"' <<'END_OF_RULES' 2>/dev/null\n"
            f"{text}\nEND_OF_RULES\nprintf '\\0'"
            for text in texts
        )
        done = subprocess.run([*ALONE, "sh"], input=script, capture_output=True, text=True, timeout=250, check=False)
        saved = done.stdout.split("\0")[:-1]
        assert len(saved) == len(texts), done.stderr
        return [each if each.rstrip().endswith("# loaded") else None for each in saved]


def each_program() -> pytest.MarkDecorator:
    """Try each that is installed: the fourth, of the older engine and the other family, has both beside it."""
    fourth = Program(Family.IP6, "legacy")
    return pytest.mark.parametrize(
        "program", [pytest.param(each, id=each.name, marks=thorough if each == fourth else ()) for each in programs()]
    )


def programs() -> list[Program]:
    """Return those that are installed."""
    every = [Program(family, engine) for family in (Family.IP, Family.IP6) for engine in ("nft", "legacy")]
    return [each for each in every if shutil.which(f"{each.name}-restore")]
