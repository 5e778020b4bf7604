"""Write what the docs take from the program: every command with its options, and the policy's JSON Schema.

`python tools/reference.py` after a change to a verb's help or to the policy's schema; a test says when it is due.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click

from failshut.cli.main import VERBS, root
from failshut.cli.session import session_options
from failshut.config.schema import json_schema
from failshut.model.exits import MEANING

REPOSITORY = Path(__file__).resolve().parents[1]
_HEAD = """\
# failshut

<!-- Written by tools/reference.py from the program itself: change the help texts, not this page. -->

```
failshut [OPTIONS] COMMAND [ARGUMENTS]
```
"""
_EVERYWHERE = "Before or after any command:"
_PATHS = """\
## Files

| path | what |
|---|---|
| `/etc/failshut/failshut.toml` | the policy, [failshut.toml(5)](policy.md) |
| `/etc/failshut/armed/` | the sealed locks, the current and the last good one: what a boot loads |
| `/etc/failshut/load`, `/etc/failshut/route` | the scripts that load them; [boot](boot.md) |
| `/run/failshut/status.json` | the state for bars, written by [failshut-monitor(8)](monitor.md) |
| `/var/lib/failshut/runs/` | what drills and verifications have found |

## Environment

`NO_COLOR` switches colour off where `--color` does not say otherwise.

## See also

[failshut.toml(5)](policy.md), [failshut-audit(8)](audit.md), [failshut-monitor(8)](monitor.md), wg-quick(8), nft(8)
"""


def commands_page() -> str:
    """Return docs/reference/commands.md: each verb with its usage, its help and its options."""
    everywhere = _shared_options()
    parts = [_HEAD, _prose(root.help), f"{_EVERYWHERE}\n", _options(everywhere)]
    names = {option.name for option in everywhere}
    for path, command in commands():
        usage = command.get_usage(_context(path)).removeprefix("Usage: ")
        parts += [f"## failshut {' '.join(path)}\n", f"```\n{' '.join(usage.split())}\n```\n", _prose(command.help)]
        parts.append(_options([each for each in command.params if isinstance(each, click.Option) and each.name not in names]))
    codes = ((f"{int(code)}", meaning) for code, meaning in MEANING.items())
    parts += ["## Exit status\n", _table("code", "meaning", codes), _PATHS]
    return "\n".join(part for part in parts if part)


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that call it: a verb, then the verb's own commands, and those in them."""
    for verb in VERBS:
        yield from _within((verb,), root.get_command(click.Context(root), verb))


def _within(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    context = click.Context(command)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield from _within((*path, name), command.get_command(context, name))


def _context(path: tuple[str, ...]) -> click.Context:
    """Return the context in which a command says its usage."""
    context = click.Context(root, info_name="failshut")
    command: click.Command = root
    for word in path:
        command = command.get_command(context, word) if isinstance(command, click.Group) else command
        context = click.Context(command, info_name=word, parent=context)
    return context


def schema_text() -> str:
    """Return src/failshut/config/policy.schema.json."""
    return json.dumps(json_schema(), indent=1) + "\n"


PAGES = {
    REPOSITORY / "docs/reference/commands.md": commands_page,
    REPOSITORY / "src/failshut/config/policy.schema.json": schema_text,
}


def main() -> None:
    """Write each page."""
    for path, text in PAGES.items():
        path.write_text(text(), encoding="utf-8")


def _shared_options() -> list[click.Option]:
    """Return the options that stand before or after any verb, as they are declared."""

    @click.command()
    @session_options
    def nothing(**_: object) -> None: ...

    return [each for each in nothing.params if isinstance(each, click.Option)]


def _prose(text: str | None) -> str:
    return "\n".join(_paragraphs(inspect.cleandoc(text or ""))) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """Yield click's paragraphs as Markdown; one that click leaves alone is laid out by its author."""
    for paragraph in re.split(r"\n{2,}", text):
        first, _, rest = paragraph.partition("\n")
        yield f"```\n{rest}\n```\n" if first == "\b" else f"{paragraph}\n"


def _options(options: list[click.Option]) -> str:
    return _table("option", "meaning", map(_option, options)) if options else ""


def _option(option: click.Option) -> tuple[str, str]:
    names = ", ".join(f"`{each}`" for each in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag or option.count else f" `{option.make_metavar(click.Context(root)).strip('[]')}`"
    needed = " Needed." if option.required else ""
    return f"{names}{value}", f"{option.help}{needed}"


def _table(*head_and_rows: object) -> str:
    *head, rows = head_and_rows
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
