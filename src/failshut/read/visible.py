"""A text with nothing in it that a terminal would obey: a comment in somebody's ruleset, the name that a program gave itself."""

from __future__ import annotations

# Tabs and ends of lines stay. The others become their pictures (U+2400 and after), those without one a private character each:
# two names that differ stay two names, and every place in the text stays where it is.
_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n\r\0"}
_PICTURES[0x7F] = 0x2421
_TURNING = (0x061C, *range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_PICTURES |= {code: 0xE000 + (code & 0xFF) for code in (*range(0x80, 0xA0), *_TURNING)}


def visible(text: str) -> str:
    """Return the text with control characters, and those that turn the direction of writing, made visible."""
    return text.translate(_PICTURES)


def plain(text: str) -> str:
    """Return the text on one line, with a question mark for whatever can't be printed: a program chooses its own name."""
    return "".join(each if each.isprintable() else "?" for each in text)
