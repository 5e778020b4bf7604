"""What the tests of pages share: a parser that forgives nothing, and what a page may not have."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

import html5lib

XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
FETCHING = ("script", "link", "iframe", "img", "object", "embed", "base", "form", "audio", "video")


def parsed(page: str) -> Element:
    """Return the page's tree; raise on the first thing that is not HTML, a tag that is not closed among them."""
    return html5lib.HTMLParser(strict=True).parse(page)


def words_of(element: Element) -> str:
    """Return all text of an element, its blanks joined."""
    return " ".join(" ".join(element.itertext()).split())


def article(tree: Element, name: str) -> Element:
    """Return the element with this id."""
    return next(each for each in tree.iter() if each.get("id") == name)


def assert_self_contained(page: str) -> None:
    """Assert that a page asks for nothing: no script, no address to fetch from, and a policy that would refuse it."""
    tree = parsed(page)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in [
        each.get("content") for each in tree.iter(f"{XHTML}meta")
    ]
    assert not [
        each.tag for each in tree.iter() if each.tag.removeprefix(XHTML) in ("script", "link", "iframe", "img", "object", "base")
    ]
    handlers = [name for each in tree.iter() for name in each.attrib if str(name).startswith("on")]
    targets = [each.get(name, "#") for each in tree.iter() for name in ("href", "src", "action", "formaction")]
    assert handlers == []
    assert all(each.startswith("#") for each in targets)
    assert not re.search(r"url\((?!#)|@import", page)


def assert_accessible(page: str) -> None:
    """Assert that each picture has a title and a description, each table its headers, and each reference something to refer to."""
    tree = parsed(page)
    names = [each.get("id") for each in tree.iter() if each.get("id")]
    assert len(names) == len(set(names))
    for picture in tree.iter(f"{SVG}svg"):
        if picture.get("aria-hidden") != "true":
            assert picture.get("role") == "img"
            assert words_of(picture.find(f"{SVG}title"))
            assert words_of(picture.find(f"{SVG}desc"))
    for table in tree.iter(f"{XHTML}table"):
        assert [each.get("scope") for each in table.iter(f"{XHTML}th")].count("col") > 1
    for each in tree.iter():
        for name in (each.get("aria-labelledby") or "").split():
            assert name in names
        if (each.get("href") or "").startswith("#"):
            assert each.get("href")[1:] in names
