"""Sphinx extension: what a page of the site becomes in a manual page, where there are no links to follow and no wide tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docutils import nodes


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's way in."""
    app.connect("doctree-resolved", _simplify)
    return {"parallel_read_safe": True}


def _simplify(app: Any, doctree: nodes.document, _: str) -> None:
    if app.builder.name != "man":
        return
    for reference in list(doctree.findall(nodes.reference)):
        if not reference.get("refuri", "").startswith(("http:", "https:", "mailto:")):
            reference.replace_self(list(reference.children))
    for table in list(doctree.findall(nodes.table)):
        table.replace_self(_as_list(table))
    for image in list(doctree.findall(nodes.image)):
        image.parent.remove(image)


def _as_list(table: nodes.table) -> nodes.definition_list:
    """Return a row as a term, its first cell, and what is said of it, as manual pages have it."""
    head, *rows = ([entry.children for entry in row.children] for row in table.findall(nodes.row))
    titles = ["".join(each.astext() for each in cell) for cell in head]
    listed = nodes.definition_list()
    for first, *others in rows:
        term = nodes.term("", "", *_inline(first))
        *between, last = others or [[]]
        said = nodes.paragraph("", "", *_between(titles[1:], between), *_inline(last))
        listed += nodes.definition_list_item("", term, nodes.definition("", said))
    return listed


def _between(titles: list[str], cells: list[list[nodes.Node]]) -> Iterator[nodes.Node]:
    """Yield the cells between the first and the last, each with its column's title."""
    for title, cell in zip(titles, cells, strict=False):
        if any(each.astext() for each in cell):
            yield nodes.emphasis("", title)
            yield nodes.Text(" ")
            yield from _inline(cell)
            yield nodes.Text(". ")


def _inline(cell: list[nodes.Node]) -> list[nodes.Node]:
    """Return what stands in a cell's paragraphs."""
    return [child for block in cell for child in (block.children if isinstance(block, nodes.paragraph) else [block])]
