"""What would have leaked, live: each refused packet with the process that sent it, and the name that it asked for.

`feed` brings what happens, `tally` adds it up, `names` remembers which address was asked for by which name.
"""
