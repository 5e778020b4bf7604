"""nft, the only way to the kernel's rules: check, load, list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from failshut.host.filter.generation import of_one_moment
from failshut.host.run import NOT_EXECUTABLE, NOT_FOUND, TIMED_OUT, Result, run, run_all
from failshut.model.lock import GUARD_NAME, LOCK_NAME

if TYPE_CHECKING:
    from failshut.model.ruleset import Ruleset

# Where something is counted, or open for a time. Without the rules: a long list of prefixes in them is none of these.
_COUNTED = (("inet", "counters"), ("inet", "sets"), ("netdev", "counters"))
# In seconds, for a text of 100,000 prefixes on a machine that is emulated, or has no processor left.
_PATIENCE = 180.0
# nft's own words, and the kernel's, for a machine that has no more to give.
_EXHAUSTED = ("Memory allocation failure", "Cannot allocate memory", "Too many open files")


class NftError(Exception):
    """nft refused, is missing or may not ask the kernel. `permission` tells the last from the others.

    `exhausted` says that it came to no answer: the text may be right, and the kernel may know all that is in it.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(result.complaint)
        self.missing = result.code == NOT_FOUND
        self.permission = result.code not in (NOT_FOUND, NOT_EXECUTABLE) and "permitted" in result.err
        self.exhausted = result.code == TIMED_OUT or any(each in result.err for each in _EXHAUSTED)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the kernel holds under the lock's name, in nft's words.

    `texts` are the tables without counters' values and sets' elements: they compare by value and load again. `json_texts` have
    both, and nothing else; they are there for who asked for what was counted.
    """

    tables: tuple[tuple[str, str], ...] = ()
    # Whether the guard's table stands behind them.
    guarded: bool = False
    texts: tuple[str, ...] = ()
    json_texts: tuple[str, ...] = ()

    def ruleset(self) -> Ruleset:
        """Return the rules as the model has them, without what is in the sets: each of the lock's is filled while it stands."""
        # Imported here: `status` compares texts and reads no rule while all is well.
        from failshut.model.ruleset import Ruleset  # noqa: PLC0415
        from failshut.read.nft.text import read_text  # noqa: PLC0415

        tables = (table for text in self.texts for table in read_text(text, "nft list").ruleset.tables)
        return Ruleset(tuple(replace(table, sets=tuple(replace(each, elements=()) for each in table.sets)) for table in tables))


def check(text: str) -> Result:
    """Ask nft and the kernel whether `text` would load; changes nothing."""
    return run(["nft", "-c", "-f", "-"], stdin=text, timeout=_PATIENCE)


def load(text: str) -> Result:
    """Load `text` in one transaction: all of it or nothing."""
    return run(["nft", "-f", "-"], stdin=text, timeout=_PATIENCE)


def listing(*, counted: bool = False) -> Listing:
    """Read the lock's tables back from the kernel; with what was `counted`, and what is in the sets. Raises `NftError`."""
    return of_one_moment(lambda: _listing(counted=counted))


def list_words(table: tuple[str, str]) -> tuple[str, ...]:
    """Return how nft is asked for a table: what it says is laid beside what it said to the same words before."""
    return ("nft", "--stateless", "--terse", "list", "table", *table)


def _listing(*, counted: bool) -> Listing:
    known = _tables()
    tables = tuple(each for each in known if each[1] == LOCK_NAME)
    # One table a call: nft 1.0.6 fails to find the first of several when they are of different families.
    rules = [list_words(table) for table in tables]
    # Each call has nft read the whole kernel's rules: with long lists, a third of a second.
    kinds = [(kind, family) for family, kind in _COUNTED if counted and (family, LOCK_NAME) in tables]
    contents = [("nft", "--json", "list", kind, "table", family, LOCK_NAME) for kind, family in kinds]
    answers = tuple(map(_said, run_all([*rules, *contents])))
    return Listing(
        tables=tables,
        guarded=("inet", GUARD_NAME) in known,
        texts=answers[: len(rules)],
        json_texts=answers[len(rules) :],
    )


def _tables() -> tuple[tuple[str, str], ...]:
    # Not as JSON: nft 1.0.6 reads beyond its names of flags, and falls, when any program owns a table (`flags owner`). Not `list
    # tables`, which reads every rule and every element first.
    lines = (line.split() for line in _answer("nft", "list", "chains").splitlines())
    return tuple((words[1], words[2]) for words in lines if words[:1] == ["table"])


def _answer(*argv: str) -> str:
    return _said(run(argv))


def _said(result: Result) -> str:
    if not result.ok:
        raise NftError(result)
    return result.out
