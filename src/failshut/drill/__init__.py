"""Attacks on the lock in a throw-away lab of network namespaces, judged by captured packets.

`pool` starts workers, a `worker` runs scenarios in namespaces of its own, `run` takes one through a lab and asks the `judge`.
`network` builds the lab, `attacker` holds what attacks send with, `scenarios` are the attacks, `lab` is what a scenario is given.
"""
