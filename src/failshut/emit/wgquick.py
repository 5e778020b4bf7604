"""Edits of a wg-quick config that keep every other byte of it: comments, order, line ends."""

from __future__ import annotations

import re

from failshut.model.units import Mark

# How our own line is known again, so that disarming removes exactly it.
TAG = "# failshut: the lock knows the tunnel's packets by this mark"
# Around the inline lock, for whoever reads the file and for whoever takes it out.
INLINE_BEGIN = (
    "# failshut's lock, while this tunnel is up: nothing holds at boot, after a crash of the machine or after `wg-quick down`"
)
INLINE_END = "# end of failshut's lock"
_INLINE = re.compile(rf"(?:\r\n|\n|\r){re.escape(INLINE_BEGIN)}.*?{re.escape(INLINE_END)}", re.DOTALL)
_INTERFACE = re.compile(r"^[ \t]*\[interface\][^\r\n]*", re.IGNORECASE | re.MULTILINE)
_LINE_ENDS = ("\r\n", "\n", "\r", "")
_OURS = re.compile(rf"^FwMark = [^\r\n]*{re.escape(TAG)}(?:\r\n|\n|\r|$)", re.MULTILINE)


def with_fwmark(text: str, mark: Mark) -> str:
    """Return the config with a tagged FwMark line first in [Interface]. Raises ValueError without that section."""
    bare = without_fwmark(text)
    section = _INTERFACE.search(bare)
    if section is None:
        raise ValueError("the config has no [Interface] section")
    return line_behind(bare, section.end(), f"FwMark = {mark} {TAG}")


def line_behind(text: str, place: int, *lines: str) -> str:
    """Return the text with lines behind the one that ends at `place`, and with its line end, which need not be the file's."""
    own = next(each for each in _LINE_ENDS if text.startswith(each, place))
    end = own or ("\r\n" if "\r\n" in text else "\n")
    return f"{text[:place]}{end}{''.join(f'{line}{end}' for line in lines)}{text[place + len(own) :]}"


def fwmark_of_ours(text: str) -> Mark | None:
    """Return the mark in our tagged line; None without one."""
    found = _OURS.search(text)
    return Mark(int(found[0].split()[2], 0)) if found else None


def with_inline(text: str, lines: tuple[str, ...]) -> str:
    """Return the config with tagged lines first in [Interface]. Raises ValueError without that section."""
    bare = without_inline(text)
    section = _INTERFACE.search(bare)
    if section is None:
        raise ValueError("the config has no [Interface] section")
    newline = "\r\n" if "\r\n" in bare else "\n"
    ours = "".join(f"{newline}{line}" for line in (INLINE_BEGIN, *lines, INLINE_END))
    return f"{bare[: section.end()]}{ours}{bare[section.end() :] or newline}"


def without_inline(text: str) -> str:
    """Return the config without what `with_inline` put in; a text that has none comes back as it is."""
    return _INLINE.sub("", text)


def without_fwmark(text: str) -> str:
    """Return the config without our tagged line; a text that has none comes back as it is."""
    return _OURS.sub("", text)
