"""Stands beside an armed lock: puts back drift, holds new devices, watches the tunnels, tells. The lock needs none of it.

`service` runs it, and `State` is the one value that it keeps: what shows or measures it reads that. `lock` puts back, `tunnels`
looks, `telling` says.
"""
