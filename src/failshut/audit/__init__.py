"""The proof: what a ruleset lets out, decided over its text. Pure, and never on the side of the compiler.

`evaluate` sends one packet, `symbolic` all of them; they share the vocabulary (`words`, `fields`, `route`) and no line of logic.
"""
