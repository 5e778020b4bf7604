"""The proof: what a ruleset lets out, decided over its text. Pure, and never on the side of the compiler.

`prove` asks each `question` about a `world`: `symbolic` sends all packets, `concrete` the one that was found, and an `answer` comes
of it. These two share what they know of `netfilter`, the `predicate`s of a question, and no line of logic.
"""
