"""Ruleset → text. A rule that a target cannot say is an error, never dropped."""
