"""What the docs say of the program is so, and what the program has is in the docs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import reference

from failshut.cli.main import VERBS
from failshut.config.schema import TABLES, keys_of

REPOSITORY = Path(__file__).parents[2]

PAGES = sorted(
    each
    for each in (*REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("*.md"))
    # What is written there was so at its time.
    if each.name != "CHANGELOG.md" and "adr" not in each.parts
)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# `failshut`, global options, a verb, and the rest up to a comment or the next command.
_COMMAND = re.compile(r"(?:^|[\s(/;&|])failshut (?P<words>[^#;&|`()\n]+)", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][a-z0-9-]*")


@pytest.mark.parametrize("path", reference.PAGES, ids=lambda each: each.name)
def test_what_the_program_writes_of_itself_is_as_it_was_written(path):
    assert path.read_text() == reference.PAGES[path](), f"{path.name} is old: run `make reference`"


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `failshut` of every command line in a page's code."""
    code = [*_FENCE.findall(text), *_SPAN.findall(_FENCE.sub("", text))]
    for each in code:
        for found in _COMMAND.finditer(each):
            # What stands behind two spaces explains; what stands behind -- is another program's.
            line = re.split(r"\s{2,}|\s--\s", found["words"].strip())[0]
            yield line.split()


COMMANDS = dict(reference.commands())


def options_of(path: tuple[str, ...]) -> set[str]:
    given = (each for each in COMMANDS[path].params if isinstance(each, click.Option))
    return {name for option in given for name in (*option.opts, *option.secondary_opts)} | {"-h", "--help"}


EVERY_OPTION = {option for path in COMMANDS for option in options_of(path)} | {"--version"}


def wrong_in(text: str) -> list[str]:
    """Return the commands and options of a page that the program does not have."""
    wrong = []
    for words in commands(text):
        verb = next((each for each in words if not each.startswith("-")), None)
        if verb not in VERBS:
            # `failshut COMMAND --help`, and the name in a sentence.
            known = EVERY_OPTION if verb is None or not verb.islower() or not verb.isalpha() else set()
        else:
            rest = words[words.index(verb) + 1 :]
            known = set()
            path = (verb,)
            for each in (*rest, ""):
                known |= options_of(path)
                path = (*path, each) if (*path, each) in COMMANDS else path
        wrong += [f"failshut {' '.join(words)}: {each}" for each in _OPTION.findall(" ".join(words)) if each not in known]
        if not known:
            wrong.append(f"failshut {' '.join(words)}")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda each: str(each.relative_to(REPOSITORY)))
def test_every_command_and_option_in_the_docs_is_one_of_the_program(page):
    assert wrong_in(page.read_text()) == []


def test_a_command_that_is_not_there_would_be_noticed():
    """The control."""
    assert wrong_in("`failshut arm --soon` and `failshut lock`, or\n```\nfailshut allow lan -q\n```\n") == [
        "failshut allow lan -q: -q",
        "failshut arm --soon: --soon",
        "failshut lock",
    ]


@pytest.mark.parametrize("page", [each for each in PAGES if "docs" in each.parts], ids=lambda each: each.name)
def test_every_option_that_stands_alone_in_the_docs_is_one_of_some_verb(page):
    alone = [each for each in _SPAN.findall(_FENCE.sub("", page.read_text())) if each.startswith("--")]
    assert [each for each in alone if each.split()[0].split("=")[0] not in EVERY_OPTION | FOREIGN] == []


# Of other programs: Docker's, pytest's, tailscaled's, pipx's.
FOREIGN = {"--network", "--scenarios", "--outbound-http-proxy-listen", "--socks5-server", "--global"}


@pytest.mark.parametrize("page", PAGES, ids=lambda each: str(each.relative_to(REPOSITORY)))
def test_every_link_in_the_docs_leads_somewhere(page):
    text = _FENCE.sub("", page.read_text())
    broken = []
    for target in _LINK.findall(text):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("where", [each for each in TABLES if each], ids=".".join)
def test_every_key_of_the_policy_is_documented_and_every_documented_key_exists(where):
    name = ".".join({"*": "NAME"}.get(each, each) for each in where if each != "#")
    head = f"[[{name}]]" if where[-1] == "#" else f"[{name}]"
    text = (REPOSITORY / "docs/reference/policy.md").read_text()
    (section,) = re.findall(rf"^## {re.escape(head)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE))
    tables = {each[len(where)] for each in TABLES if len(each) > len(where) and each[: len(where)] == where}
    assert documented == set(keys_of(TABLES[where])) - tables
