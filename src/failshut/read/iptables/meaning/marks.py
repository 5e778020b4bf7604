"""Targets that write marks: MARK, CONNMARK, HMARK."""

from __future__ import annotations

from failshut.model.ruleset import Assign, Binary, BitOp, Ct, Expression, Meta, Opaque, masked
from failshut.read.iptables.meaning.ways import ALL_BITS, Seen, Ways, WrongError, option, value, value_and_mask
from failshut.read.iptables.tree import Option, Part

_PACKET, _CONNECTION = Meta("mark"), Ct("mark")
_WRITES = ("set-xmark", "set-mark", "and-mark", "or-mark", "xor-mark")


def mark(part: Part, seen: Seen) -> Ways:
    """`-j MARK`."""
    del seen
    return ((Assign(_PACKET, _written(part, _PACKET)),),)


def connmark(part: Part, seen: Seen) -> Ways:
    """`-j CONNMARK`: write the connection's mark, save the packet's into it, or restore the packet's from it."""
    del seen
    if any(each.name.endswith("-shift-mark") for each in part.options):
        target: Meta | Ct = _PACKET if option(part, "restore-mark") else _CONNECTION
        return ((Assign(target, Opaque(f"-j {part}")),),)
    both = option(part, "mask")
    of_packet, of_connection = (_mask(option(part, name) or both) for name in ("nfmask", "ctmask"))
    if option(part, "save-mark"):
        return ((Assign(_CONNECTION, exclusive_or(_CONNECTION, ALL_BITS ^ of_connection, _some(_PACKET, of_packet))),),)
    if option(part, "restore-mark"):
        return ((Assign(_PACKET, exclusive_or(_PACKET, ALL_BITS ^ of_packet, _some(_CONNECTION, of_connection))),),)
    return ((Assign(_CONNECTION, _written(part, _CONNECTION)),),)


def hash_mark(part: Part, seen: Seen) -> Ways:
    """`-j HMARK`: a mark computed from the packet's addresses, which may be any."""
    del seen
    return ((Assign(_PACKET, Opaque(f"-j {part}")),),)


def exclusive_or(target: Meta | Ct, keep: int, other: Expression) -> Expression:
    """Return `(target & keep) ^ other`, in the fewest words."""
    if not keep:
        return other
    kept: Expression = target if keep == ALL_BITS else masked(target, keep)
    return kept if other == 0 else Binary(BitOp.XOR, kept, other)


def _written(part: Part, target: Meta | Ct) -> Expression:
    given = next((each for each in part.options if each.name in _WRITES), None)
    if not given:
        raise WrongError(f"-j {part.name} needs --set-xmark", Option(part.name, (), negated=False, at=part.at))
    if given.name == "set-xmark":
        wanted, mask = value_and_mask(given)
        return exclusive_or(target, ALL_BITS ^ mask, wanted)
    if given.name == "set-mark":
        wanted, mask = value_and_mask(given)
        return exclusive_or(target, ALL_BITS ^ (mask | wanted), wanted)
    bits = value(given, ALL_BITS)
    if given.name == "and-mark":
        return exclusive_or(target, bits, 0)
    return exclusive_or(target, ALL_BITS ^ bits if given.name == "or-mark" else ALL_BITS, bits)


def _mask(given: Option | None) -> int:
    return value(given, ALL_BITS) if given else ALL_BITS


def _some(of: Meta | Ct, mask: int) -> Expression:
    return of if mask == ALL_BITS else masked(of, mask)
