#!/usr/lib/failshut/bin/python3 -I
"""Runs failshut from /usr/lib/failshut; -I: nothing of the caller's environment or directory is imported."""

from failshut.cli.main import main

main()
