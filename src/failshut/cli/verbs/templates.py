"""`failshut templates`: ready WireGuard configs with fresh keys, and the lock policy for each."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from failshut.cli.ask import can_ask, prompt
from failshut.cli.qr import show_qr
from failshut.cli.session import Failure, Session, begin, session_options
from failshut.config.mistake import Mistake
from failshut.model.exits import Exit
from failshut.templates.catalogue import templates

if TYPE_CHECKING:
    from failshut.templates.catalogue import Question, Template
    from failshut.templates.make import File, Keys, Source

# Every file holds a key, or stands beside one.


@click.group("templates")
@session_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Make ready WireGuard configs with fresh keys, and the lock policy for each.

    A template makes a folder with one folder in it for each machine: what is to stand below `/` there. Nothing is ever
    overwritten, every file is its owner's alone, and no private key is printed unless --qr asks for it.
    """
    context.obj = begin(context, options)


@command.command("list")
@session_options
@click.pass_context
def list_(context: click.Context, /, **options: Any) -> None:
    """List the templates."""
    session = begin(context, options)
    if session.json:
        session.print_json([{"name": each.name, "title": each.title, "about": each.about} for each in templates().values()])
        return
    formatter = click.HelpFormatter(width=context.max_content_width or 110)
    formatter.write_dl([(each.name, each.about) for each in templates().values()], col_spacing=3)
    click.echo(formatter.getvalue(), nl=False)


@command.command("show")
@click.argument("name", type=click.Choice(list(templates())))
@session_options
@click.pass_context
def show(context: click.Context, /, *, name: str, **options: Any) -> None:
    """Show what a template asks and what it makes: its files with the examples as answers, and no keys."""
    from failshut.templates.make import make

    session = begin(context, options)
    template = templates()[name]
    made = make(template, _answers(template, {each.name: _example(each) for each in template.questions}), _without_keys())
    if session.json:
        asked = [
            {"option": f"--{each.name}", "question": each.text, "default": each.default, "example": each.example}
            for each in template.questions
        ]
        files = [{"path": each.path, "text": each.text} for each in made]
        session.print_json({"name": name, "title": template.title, "about": template.about, "asks": asked, "files": files})
        return
    click.echo(f"{session.style(template.title, bold=True)}\n\n{template.about}\n\nAsks:")
    for each in template.questions:
        click.echo(f"  --{each.name:<16} {each.text}{f' [{each.default}]' if each.default else ''}")
    for file in made:
        click.echo(f"\n{session.style(f'── {file.path}', fg='cyan')}\n{file.text}", nl=False)


class _New(click.Group):
    """A command for each template: its questions are the command's options."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the templates' names."""
        return list(templates())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return the command that makes a template's files; None for a word that is none."""
        template = templates().get(cmd_name)
        return _command_of(template) if template else None


@command.group("new", cls=_New)
@session_options
@click.pass_context
def new(context: click.Context, /, **options: Any) -> None:
    """Make a template's files. What an option does not say is asked on a terminal."""
    context.obj = begin(context, options)


def _command_of(template: Template) -> click.Command:
    def run(context: click.Context, /, *, output: str | None, qr: bool, **given: Any) -> None:
        session = begin(context, given)
        said = {each.name: given[each.variable] for each in template.questions}
        _make(template, said, Path(output or template.name), session, qr)

    questions: list[click.Parameter] = [
        click.Option([f"--{each.name}"], metavar=each.kind.upper(), help=_help(each)) for each in template.questions
    ]
    made = click.Command(
        template.name,
        callback=click.pass_context(run),
        params=[
            *questions,
            click.Option(["-o", "--output"], metavar="DIRECTORY", help=f"Where they are made [./{template.name}]."),
            click.Option(["--qr"], is_flag=True, help="Draw the configs that a telephone may read: whoever sees it has the key."),
        ],
        help=f"{template.title}.\n\n{template.about}",
    )
    return session_options_of(made)


def session_options_of(made: click.Command) -> click.Command:
    """Add the global options to a command that was made by hand."""

    def nothing() -> None:
        """Carry the options."""

    made.params += reversed(getattr(session_options(nothing), "__click_params__", []))
    return made


def _help(question: Question) -> str:
    hint = f" [{question.default}]" if question.default else f" (such as {question.example})" if question.example else ""
    return f"{question.text}{hint}."


def _make(template: Template, said: dict[str, str | None], directory: Path, session: Session, qr: bool) -> None:
    from failshut.host.files import PRIVATE_FILE, write_new_tree
    from failshut.host.tunnels.wireguard import NoKeysError
    from failshut.templates.make import Source, make

    if directory.exists() or directory.is_symlink():
        raise Failure(f"{directory} is there already, and nothing is overwritten", help="--output names another directory")
    answers = _answers(template, {each.name: _asked(each, said[each.name]) for each in template.questions})
    try:
        files = make(template, answers, Source(_fresh, secrets.token_bytes(5)))
    except ValueError as error:
        raise Failure(str(error), help="a wider network has room for more", exit_code=Exit.USAGE) from error
    except NoKeysError as error:
        raise Failure(f"no keys were made: {error}", help="apt install wireguard-tools") from error
    try:
        write_new_tree(directory, {each.path: each.text for each in files}, mode=PRIVATE_FILE)
    except OSError as error:
        remedy = "--output names another place; nothing was written"
        raise Failure(f"{directory} can't be written: {(error.strerror or str(error)).lower()}", help=remedy) from error
    doubts = [f"--{each.name}: {words}" for each in template.questions if (words := _doubt(each, answers))]
    _tell(template, files, directory, session, doubts)
    for file in files if qr else ():
        if file.qr:
            show_qr(os.fspath(directory / file.path), file.text)


def _fresh(_: str) -> Keys:
    from failshut.host.tunnels.wireguard import fresh_keys
    from failshut.templates.make import Keys

    return Keys(*fresh_keys())


def _without_keys() -> Source:
    from failshut.templates.make import Keys, Source

    def named(who: str) -> Keys:
        return Keys(f"(private key: {who})", f"(public key: {who})", f"(shared key: {who})")

    return Source(named, bytes(4) + b"\x86")


def _example(question: Question) -> str:
    return question.default or question.example


def _asked(question: Question, said: str | None) -> str:
    """Return what was said, or ask; without anybody to ask, the default."""
    if said is not None:
        return said
    if can_ask():
        return prompt(question.text, question.default or "")
    if question.default is None and not question.optional:
        remedy = f"--{question.name} {question.example}: {question.text}"
        raise Failure(f"--{question.name} is missing, and nobody is here to be asked", help=remedy, exit_code=Exit.USAGE)
    return question.default or ""


def _answers(template: Template, said: dict[str, str]) -> dict[str, Any]:
    """Return the typed answers, or leave with every mistake."""
    from failshut.templates.answers import read

    values: dict[str, Any] = {}
    wrong = []
    for each in template.questions:
        text = said[each.name]
        try:
            if text.strip() or not each.optional:
                values[each.variable] = read(each.kind, text)
            else:
                values[each.variable] = None if each.kind.startswith("network") else ()
        except Mistake as mistake:
            wrong.append(f"--{each.name}: {mistake.message}; {mistake.help}")
    if wrong:
        raise Failure("\n  ".join(wrong), help="nothing was written", exit_code=Exit.USAGE)
    return values


def _doubt(question: Question, answers: dict[str, Any]) -> str:
    from failshut.templates.answers import doubt

    network = answers[question.variable]
    return doubt(network) if question.kind.startswith("network") and network else ""


def _tell(template: Template, files: Iterable[File], directory: Path, session: Session, doubts: list[str]) -> None:
    if session.json:
        made = [{"path": os.fspath(directory / each.path), "machine": each.owner} for each in files]
        told = {"template": template.name, "directory": os.fspath(directory), "files": made, "next": template.next}
        session.print_json(told | {"warnings": doubts})
        return
    for words in doubts:
        click.echo(f"failshut: warning: {words}", err=True)
    click.echo(f"{session.style('ok', fg='green', bold=True)}: {template.title}, with fresh keys:")
    for each in files:
        click.echo(f"  {directory / each.path}")
    click.echo("Next:")
    for line in template.next:
        click.echo(f"  {line}")
