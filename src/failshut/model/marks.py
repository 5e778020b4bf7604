"""The packet mark and the bits of the connection mark that the lock keeps for itself."""

from __future__ import annotations

from failshut.model.units import Mark

# The mark that the choke point writes on what it allowed; the layer under IP admits nothing else. This bit is always set in it,
# so that it is no mark of wg-quick (0xca6c), Tailscale (0xff0000), Docker or Kubernetes (low bits). The others are the machine's
# own (`host.probe`): a container with CAP_NET_RAW that can set a mark but not read this one can't forge it.
STAMP = Mark(0x10000000)

# What tailscaled sets on every socket of its own, so that its routing rules keep them out of its own tunnel; the bits it claims.
TAILSCALE, TAILSCALE_MASK = Mark(0x80000), Mark(0xFF0000)

# In the connection mark: which underlay device a connection to one of our services arrived on (1..126, shifted by 24).
ARRIVAL = Mark(0x7F000000)
ARRIVAL_SHIFT = 24
# The last of these numbers is no device: the connection belongs to a program outside the tunnel.
ARRIVED_OUTSIDE = ARRIVAL
MAX_ARRIVAL_DEVICES = (ARRIVAL >> ARRIVAL_SHIFT) - 1

# Where the kernel keeps the outgoing half of what programs outside say. Two programs may have the same address and port, one inside
# and one outside: as one connection, the first would decide for both.
OUTSIDE_ZONE = 26209

# Without a secret of the machine's own, what `host.probe` would make of one: the mark that the lock writes on packets of programs
# outside the tunnel, and the one that our own probes carry. Neither is trusted where another program could have set it.
OUTSIDE = Mark(0x10000001)
PROBE = Mark(0x10000002)
