"""Who is told how far a piece of work is: the engine says it, and whoever waits shows it."""

from collections.abc import Callable

# Takes a line, without its end, for a person.
Report = Callable[[str], None]
