"""A tool's text → the model. Never imports the compiler, so that what is read back can't repeat its mistakes."""

from failshut.read.recognise import read_ruleset

__all__ = ["read_ruleset"]
