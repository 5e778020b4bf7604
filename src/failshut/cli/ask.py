"""Answers that come by an option, else by a prompt where someone sits at a terminal."""

from __future__ import annotations

import sys

import click


def can_ask() -> bool:
    """Whether someone sits at a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def prompt(question: str, default: str) -> str:
    """Ask on standard error; an empty answer is the default."""
    answer: str = click.prompt(question, default=default, show_default=bool(default), err=True)
    return answer
