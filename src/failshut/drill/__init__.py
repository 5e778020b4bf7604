"""Attacks on the lock in a throw-away lab of network namespaces, judged by captured packets.

`pool` shares the jobs out among `workers` in namespaces of their own, `run` takes one scenario through a lab, and `judgement` says
what came of it. `network` builds the lab, `rules` are what it tries, `attacker` holds what attacks send with, `scenarios` are the
attacks, `lab` is what one is given. `replay` sends what the audit found; `scripted` runs a script for its rules.
"""
