"""What can be run to make rules, of what people hand over: a script, commands, a tunnel's PostUp lines, a unit's ExecStart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath

from failshut.read.foreign import foreign

_HOOKS = re.compile(r"^[ \t]*(?:Pre|Post)Up[ \t]*=[ \t]*(.*)$", re.MULTILINE)
_STARTS = re.compile(r"^[ \t]*ExecStart(?:Pre|Post)?[ \t]*=[ \t]*[-@:+!]*[ \t]*(.*)$", re.MULTILINE)
_PROMPT = re.compile(r"^[ \t]*[$>][ \t]+", re.MULTILINE)
# A word that stands where a device's or a user's name does; variables are the shell's to know.
_DEVICE = re.compile(
    r"(?:\s-[io]|\b[io]if(?:name)?|\bdev|\b(?:in|out) on|[A-Z_]*(?:IF|IFACE|INTERFACE|DEV)=)\s*[\"']?([a-zA-Z][\w.-]{1,14})\b"
)
_USER = re.compile(
    r"(?:--[ug]id-owner\s+|\bsk[ug]id\s+(?:!=\s+)?|\bid\s+-[ugn]+\s+|\bgetent\s+(?:passwd|group)\s+|\w*(?i:user|uid|owner|group|gid)\w*=)"
    r"[\"']?(?:\$\{\w+:[-=])?([a-z_][a-z0-9_-]{0,30})\b"
)
# The same by a variable, whose value stands elsewhere.
_USER_VARIABLE = re.compile(r"(?:--[ug]id-owner\s+|\bsk[ug]id\s+(?:!=\s+)?)[\"']?\$\{?([A-Za-z_]\w*)")
# What else stands there: ufw's words, and those of `ip -o link`.
_NO_DEVICES = frozenset({"lo", "any", "from", "to", "type", "in", "link", "addr", "address", "route", "show"})
# A name that DNS may know, but in no comment, path or URL; and what looks so and is a file, or known to nobody (RFC 2606).
_COMMENT = re.compile(r"(?m)^[ \t]*#.*$")
_HOST = re.compile(r"(?<![\w./@$-])((?:[A-Za-z0-9][A-Za-z0-9-]*\.){1,5}[A-Za-z]{2,24})(?![\w./=(-])")
_NO_HOST = re.compile(
    r"(?i)\.(?:invalid|bak|cfg|conf|config|crt|d|gz|json|key|list|log|md|netdev|network|nft|ovpn|pem|pid|py|rules|save|service|set|sh|slice"
    r"|sock|socket|target|timer|tmp|txt|xml|ya?ml)\Z"
)
_MOST_NAMES = 32
# IFNAMSIZ of linux/if.h, but for its zero byte.
_LONGEST_NAME = 15


@dataclass(frozen=True, slots=True)
class Script:
    """A text to be run by `interpreter` (by sh where there is none of that name), or, where that is empty, by what it begins with.

    `devices`, `users` and `hosts` are those that it names.
    """

    text: bytes
    interpreter: str = ""
    devices: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


def script_of(text: str, name: str) -> Script | None:
    """Return what there is to be run in a file of that name; None where there is nothing."""
    other = foreign(text)
    if other is None or not other.runs:
        return None
    if not text.startswith("#!"):
        # wg-quick, systemd and a terminal take Windows' ends of lines for ends of lines; the kernel, of a script, does not.
        text = text.replace("\r\n", "\n")
    lines = text
    if hooks := _HOOKS.findall(text):
        # wg-quick(8): `%i` is the tunnel, which the file is named for; by a longer name there is no device.
        tunnel = PurePath(name).stem
        lines = "\n".join(hooks).replace("%i", tunnel if len(tunnel.encode()) <= _LONGEST_NAME else "wg0")
    elif starts := _STARTS.findall(text):
        lines = "\n".join(starts).replace("%%", "%")
    elif text.startswith("#!"):
        return Script(text.encode(), "", *_names(text))
    # wg-quick's own shell, and that of whoever pastes commands.
    return Script(f"{_PROMPT.sub('', lines).rstrip()}\n".encode(), "bash", *_names(lines))


def _names(text: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    devices = (each for each in _DEVICE.findall(text) if each not in _NO_DEVICES)
    variables = dict.fromkeys(_USER_VARIABLE.findall(text))
    by_variable = (each for name in variables for each in re.findall(rf"\b{name}=[\"']?([a-z_][a-z0-9_-]{{0,30}})\b", text))
    users = (*_USER.findall(text), *by_variable)
    hosts = (each.lower() for each in _HOST.findall(_COMMENT.sub("", text)) if not _NO_HOST.search(each))
    return tuple(_first(devices)), tuple(_first(users)), tuple(_first(hosts))


def _first(names: Iterable[str]) -> Iterator[str]:
    """Yield each name once, as many as anybody needs."""
    yield from islice(dict.fromkeys(names), _MOST_NAMES)
