"""The bits of the packet mark and the connection mark that the lock keeps for itself."""

from __future__ import annotations

from failshut.model.units import Mark

# Set by the choke point on what it allowed; the layer under IP admits nothing else. Far from the marks of wg-quick (0xca6c),
# Tailscale (0xff0000), Docker and Kubernetes (low bits).
STAMP = Mark(0x10000000)

# In the connection mark: which underlay device a connection to one of our services arrived on (1..127, shifted by 24).
ARRIVAL = Mark(0x7F000000)
ARRIVAL_SHIFT = 24
MAX_ARRIVAL_DEVICES = ARRIVAL >> ARRIVAL_SHIFT
