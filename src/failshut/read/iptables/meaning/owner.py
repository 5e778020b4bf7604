"""`-m owner`: whose socket sent the packet. Only a packet that this machine sends has one (OUTPUT, POSTROUTING)."""

from __future__ import annotations

from failshut.model.ruleset import Match, Meta, Range
from failshut.read.constants import ACCOUNT
from failshut.read.iptables.meaning.ways import ALL_BITS, ALWAYS, Seen, Ways, WrongError, both, compared, unsure
from failshut.read.iptables.names import number
from failshut.read.iptables.tree import Option, Part

_KEYS = {"uid-owner": "skuid", "gid-owner": "skgid"}
# Other names are looked up when the rules are loaded; this one is the same everywhere.
_ROOT = "root"
# What is true of a packet that belongs to no program: nft's comparisons with a user never hold for it.
_NOBODY = Match(Meta("skuid"), "missing")
_SOMEBODY = Match(Meta("skuid"), Range(0, ALL_BITS))


def owner(part: Part, seen: Seen) -> Ways:
    """Return the ways of `-m owner`.

    A packet without a program matches exactly when every option is negated (xt_owner.c, owner_mt). A kernel's own socket,
    WireGuard's say, exists and has neither user nor group: for `--socket-exists` it can't be told from no socket.
    """
    del seen
    if not part.options:
        raise WrongError("-m owner needs an option", Option(part.name, (), negated=False, at=part.at))
    exists = next((each for each in part.options if each.name == "socket-exists"), None)
    users = [each for each in part.options if each.name in _KEYS]
    supplementary = any(each.name == "suppl-groups" for each in part.options)
    somebody = both(*(_user(each, supplementary=supplementary) for each in users))
    if exists and exists.negated:
        somebody = ()
    elif not users:
        somebody = ((_SOMEBODY,),)
    nobody: Ways = ALWAYS if all(each.negated for each in users) else ()
    if exists and nobody:
        nobody = unsure(f"-m owner {exists}")
    return (*somebody, *both(((_NOBODY,),), nobody)) if nobody else somebody


def _user(given: Option, *, supplementary: bool) -> Ways:
    key, text = _KEYS[given.name], given.values[0]
    wanted = (0 if text == _ROOT else text) if ACCOUNT.fullmatch(text) else _numbers(given, text)
    if supplementary and given.name == "gid-owner":
        return both(((_SOMEBODY,),), unsure(f"-m owner {given} --suppl-groups"))
    if isinstance(wanted, Range) and (wanted.low, wanted.high) == (0, ALL_BITS) and given.negated:
        return ()
    return compared(Meta(key), wanted, negated=given.negated)


def _numbers(given: Option, text: str) -> int | Range:
    low, dash, high = text.partition("-")
    first, last = number(low, ALL_BITS), number(high, ALL_BITS) if dash else None
    if first is None or (dash and (last is None or last < first)):
        raise WrongError(f"{text!r} is no user or group", given)
    # iptables takes no last number, and no user has it (setuid(2)).
    last = ALL_BITS if last == ALL_BITS - 1 else last
    return first if last is None or last == first else Range(first, last)
