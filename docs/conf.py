"""Sphinx: the site (`make docs`) and the manual pages, from the same pages."""

from __future__ import annotations

import re
import sys
from pathlib import Path

project = "failshut"
author = "The failshut authors"
copyright = author  # noqa: A001 - Sphinx's name
_said = Path(__file__).parents[1].joinpath("src/failshut/__init__.py").read_text(encoding="utf-8")
release = re.search(r'^__version__ = "(.+)"$', _said, re.MULTILINE)[1]

sys.path.insert(0, str(Path(__file__).parent))
extensions = ["myst_parser", "manuals"]
exclude_patterns = ["adr/README.md"]
myst_heading_anchors = 3
# Pages link to files of the repository too, which are no part of the site; the docs' own links are held by a test.
suppress_warnings = ["myst.xref_missing"]
html_theme = "furo"
html_title = "failshut"

# Page, name, what it is, authors, section.
man_pages = [
    ("reference/commands", "failshut", "keep every packet in the tunnel: a VPN kill switch that fails shut", [author], 8),
    ("reference/policy", "failshut.toml", "what may leave beside the tunnel: failshut's policy", [author], 5),
    ("reference/monitor", "failshut-monitor", "sees what becomes of failshut's lock, and says it", [author], 8),
    ("reference/audit", "failshut-audit", "prove that a ruleset leaks nothing, or show the packet that does", [author], 8),
]
man_show_urls = False
