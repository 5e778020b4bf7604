"""What a boot loads: the sealed files by generation, and the loader, units and hooks, put in place or taken away.

The texts of these are `failshut.boot`'s.
"""
