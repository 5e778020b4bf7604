"""Other rules to try the attacks under: a user's files, each with the program that loads it as it is."""

from __future__ import annotations

from failshut.drill.rules.source import Loadable
from failshut.model.ruleset import Family
from failshut.read.files.recognise import Format, format_of, saves_in

_SAVES: dict[Family, tuple[str, ...]] = {Family.IP: ("iptables-restore",), Family.IP6: ("ip6tables-restore",)}


def loadable(text: bytes, name: str) -> tuple[Loadable, ...]:
    """Return what is to be loaded of a file: iptables-save's, nft's, or its JSON. Raises ValueError with what is wrong."""
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not text in UTF-8") from error
    match format_of(decoded):
        case None:
            raise ValueError("it is neither what `iptables-save` nor what `nft list ruleset` prints")
        case Format.SAVE:
            return tuple(Loadable(name, _SAVES[family], part) for part, family in saves_in(decoded, name))
        case Format.JSON:
            return (Loadable(name, ("nft", "-j", "-f", "-"), decoded),)
        case Format.NFT:
            return (Loadable(name, ("nft", "-f", "-"), decoded),)
