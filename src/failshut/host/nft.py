"""nft, the only way to the kernel's rules: check, load, list."""

from __future__ import annotations

import json
from dataclasses import dataclass

from failshut.host.run import NOT_EXECUTABLE, NOT_FOUND, Result, run
from failshut.model.ruleset import Ruleset, Table
from failshut.read import nft as reader

LOCK_NAME = "failshut"


class NftError(Exception):
    """nft refused, is missing or may not ask the kernel. `permission` tells the last from the others."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.complaint)
        self.missing = result.code == NOT_FOUND
        self.permission = result.code not in (NOT_FOUND, NOT_EXECUTABLE) and "permitted" in result.err


@dataclass(frozen=True, slots=True)
class Listing:
    """What the kernel holds under the lock's name: the rules, the JSON texts with the counters' values, the texts to load again."""

    ruleset: Ruleset
    json_texts: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def check(text: str) -> Result:
    """Ask nft and the kernel whether `text` would load; changes nothing."""
    return run(["nft", "-c", "-f", "-"], stdin=text)


def load(text: str) -> Result:
    """Load `text` in one transaction: all of it or nothing."""
    return run(["nft", "-f", "-"], stdin=text)


def listing() -> Listing:
    """Read the lock's tables back from the kernel. Raises `NftError`."""
    tables: list[Table] = []
    json_texts: list[str] = []
    texts: list[str] = []
    for family, name in _our_tables():
        # One table a call: nft 1.0.6 fails to find the first of several when they are of different families.
        json_texts.append(_listed("-j", family, name))
        texts.append(_listed("-s", family, name))
        tables += reader.read(json_texts[-1], texts[-1]).tables
    return Listing(Ruleset(tuple(tables)), tuple(json_texts), tuple(texts))


def version() -> str | None:
    """Return nft's version, None when it is not installed."""
    result = run(["nft", "--version"])
    return result.out.split()[1].removeprefix("v") if result.ok and len(result.out.split()) > 1 else None


def _our_tables() -> list[tuple[str, str]]:
    result = run(["nft", "-j", "list", "tables"])
    if not result.ok:
        raise NftError(result)
    tables = [each["table"] for each in json.loads(result.out)["nftables"] if "table" in each]
    return [(each["family"], each["name"]) for each in tables if each["name"] == LOCK_NAME]


def _listed(flag: str, family: str, name: str) -> str:
    result = run(["nft", flag, "list", "table", family, name])
    if not result.ok:
        raise NftError(result)
    return result.out
