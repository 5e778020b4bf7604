"""A network that is up in the initramfs, and a program there that sends: what remote unlocking and network roots look like."""

from __future__ import annotations

from boot.noise import PORT

# The kernel's word that has initramfs-tools configure the network.
WORDS = "ip=dhcp"
# What the sender there sends to, by kind.
TARGETS = {"198.51.100.21": "early icmp", "198.51.100.22": "early tcp"}
# How often it was at it; /run is handed on to the machine.
ROUNDS, COUNT = 4, "/run/early-rounds"

_PING, _WGET = TARGETS
PATH = "etc/initramfs-tools/scripts/init-premount/zz-early"
SCRIPT = f"""\
#!/bin/sh
case ${{1:-}} in prereqs) exit 0 ;; esac
. /scripts/functions
if [ -z "${{IP:-}}" ]; then exit 0; fi
configure_networking
for round in $(seq {ROUNDS}); do
	ping -c 1 -W 1 {_PING}
	wget -q -T 1 -O /dev/null http://{_WGET}:{PORT}/
	echo "$round" > {COUNT}
done >/dev/null 2>&1
exit 0
"""
