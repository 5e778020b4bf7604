"""What nft lists beside what it should: compared chain by chain, in nft's own words. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping

from failshut.lower.egress import LATER, chain_name
from failshut.model.units import InterfaceName

_BLOCK = re.compile(r"^\t(?P<head>\S+ \S+) \{\n(?P<body>(?:\t\t.*\n|\n)*)\t\}\n", re.MULTILINE)
_DEVICE = re.compile(r' device "([^"]+)" ')
# The stamp is a secret.
_NUMBER = re.compile(r"0x[0-9a-f]{6,}")
_MOST_SHOWN = 6

Table = tuple[str, str]


def table_of(listing: str) -> Table:
    """Return the family and the name of a listed table."""
    words = listing.split(None, 3)
    return (words[1], words[2]) if words[:1] == ["table"] and len(words) > 2 else ("", "")


def devices_in(listing: str) -> tuple[str, ...]:
    """Return the devices that a chain of the table hangs on."""
    return tuple(dict.fromkeys(_DEVICE.findall(listing)))


def deviations(wanted: str, actual: str, there: Collection[str], later: Collection[str] = ()) -> tuple[str, ...]:
    """Return what the kernel's table has otherwise than wanted, a line each; empty when nothing is.

    `there` are the devices that exist: the chain of one that is away may be away too. `later` are those that nobody knew when the
    lock was armed and that were held before: the chain of such a device is as it should be when it is like the others.
    """
    if wanted == actual and not later:
        return ()
    goal, found = _blocks(wanted), _blocks(actual)
    return tuple(_unlike(goal, found, there, _heads(later)))


def without_strangers(wanted: str, actual: str, later: Collection[str] = ()) -> str:
    """Return the text that takes out of the kernel's table what is not wanted: emptied first, so that nothing refers to it.

    The chain of a `later` device is none, whatever was done to it: the load fills it again, and without it the device is open.
    """
    table, goal, found, ours = table_of(actual), _blocks(wanted), _blocks(actual), _heads(later)
    form = next((_formless(body) for body in goal.values() if _DEVICE.search(body)), None)
    strange = [head for head, body in found.items() if head not in goal and not _is_like(body, form)]
    # One that still hangs on what was called so before is in the way of the load.
    strange = [head for head in strange if head not in ours or not _hangs_on(found[head], (ours[head],))]
    added = [head.split() for head in strange]
    where = " ".join(table)
    flushes = [f"flush chain {where} {name}\n" for kind, name in added if kind == "chain"]
    return "".join([*flushes, *(f"delete {kind} {where} {name}\n" for kind, name in added)])


def for_devices(text: str, there: Collection[str], later: Collection[str]) -> str:
    """Return a staged text for the devices that are there, its form for `later` ones once for each; as `boot/files/load`."""
    common, *parts = re.split(r"^# device ", text, flags=re.MULTILINE)
    kept, own, form = [common], set(), ""
    for part in parts:
        name, _, body = part.partition("\n")
        if name == LATER:
            form = body
        else:
            own.add(name)
            kept += [body] if name in there else []
    kept += [_named(form, name) for name in later if name in there and name not in own]
    return "".join(kept)


def own_devices(text: str) -> tuple[str, ...]:
    """Return the devices that a staged text knows by name."""
    return tuple(each for each in re.findall(r"^# device (.+)$", text, flags=re.MULTILINE) if each != LATER)


def can_be_later(text: str) -> bool:
    """Whether a staged text says what a device gets that nobody knew."""
    return f"# device {LATER}\n" in text


def _named(form: str, name: str) -> str:
    chain = form.replace(chain_name(LATER), chain_name(InterfaceName(name)))
    return chain.replace(f'"{LATER}"', f'"{name}"')


def _blocks(listing: str) -> dict[str, str]:
    return {found["head"]: found["body"] for found in _BLOCK.finditer(listing)}


def _heads(devices: Collection[str]) -> dict[str, str]:
    """Return the devices by the heads of their chains."""
    return {f"chain {chain_name(InterfaceName(each))}": each for each in devices}


def _unlike(goal: Mapping[str, str], found: Mapping[str, str], there: Collection[str], later: Mapping[str, str]) -> Iterator[str]:
    form = next((_formless(body) for body in goal.values() if _DEVICE.search(body)), None)
    for head, body in goal.items():
        if head not in found:
            if _hangs_on(body, there):
                yield f"{head} is gone"
        elif body != found[head]:
            yield from _changed(head, body, found[head])
    for head, body in found.items():
        if head not in goal and _hangs_on(body, there) and not _is_like(body, form):
            yield f"{head} was {'changed' if head in later else 'added'}"
    yield from (f"{head} is gone" for head, device in later.items() if device in there and head not in found)


def _is_like(body: str, form: str | None) -> bool:
    return form is not None and _formless(body) == form


def _hangs_on(body: str, there: Collection[str]) -> bool:
    device = _DEVICE.search(body)
    return device is None or device[1] in there


def _formless(body: str) -> str | None:
    return _DEVICE.sub(" device ", body) if _DEVICE.search(body) else None


def _changed(head: str, wanted: str, actual: str) -> Iterator[str]:
    lines = difflib.ndiff(wanted.splitlines(), actual.splitlines())
    shown = [f"{head}: {each[0]} {_NUMBER.sub('0x…', each[2:].strip())}" for each in lines if each[0] in "+-"]
    yield from shown[:_MOST_SHOWN]
    if len(shown) > _MOST_SHOWN:
        yield f"{head}: and {len(shown) - _MOST_SHOWN} more"
