"""A network that is up in the initramfs, and a program there that sends: what remote unlocking and network roots look like."""

from __future__ import annotations

# The kernel's word that has initramfs-tools configure the network.
WORDS = "ip=dhcp"
# What the sender there sends to, and what that is called: busybox has no other sender than ping.
TARGET, KIND = "198.51.100.21", "early icmp"
# How often it was at it; /run is handed on to the machine.
ROUNDS, COUNT = 4, "/run/early-rounds"

PATH = "etc/initramfs-tools/scripts/init-premount/zz-early"
SCRIPT = f"""\
#!/bin/sh
case ${{1:-}} in prereqs) exit 0 ;; esac
. /scripts/functions
if [ -z "${{IP:-}}" ]; then exit 0; fi
configure_networking
for round in $(seq {ROUNDS}); do
	ping -c 1 -W 1 {TARGET}
	echo "$round" > {COUNT}
done >/dev/null 2>&1
exit 0
"""
