"""Where iptables' matches differ from nftables' comparisons, the kernel itself is asked which packets it counts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from iptables_rules import ALONE, CHAINS

# Sends itself an echo request, which the kernel answers from a socket that is nobody's, and an answer to no request, which belongs
# to no connection. Prints the counters as soon as both have passed.
SEND = """
import socket, struct, subprocess, sys, time

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

def icmp(kind, identity):
    bare = struct.pack("!BBHHH", kind, 0, 0, identity, 1)
    return struct.pack("!BBHHH", kind, 0, checksum(bare), identity, 1)

raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.sendto(icmp(8, 55), ("127.0.0.1", 0))
raw.sendto(icmp(0, 99), ("127.0.0.1", 0))
deadline = time.monotonic() + 10
while time.monotonic() < deadline:
    saved = subprocess.run([sys.argv[1] + "-save", "-c"], capture_output=True, text=True, check=True).stdout
    if "[3:84] -A OUTPUT -p icmp -m icmp --icmp-type any" in saved:
        break
print(saved)
"""
# The packets are a request and an answer of root's, and an answer of the kernel's. What each rule counts of them:
COUNTED = {
    "-p icmp -m icmp --icmp-type 0 -m owner --uid-owner 0": 1,
    "-p icmp -m icmp --icmp-type 0 -m owner ! --uid-owner 4242": 2,
    "-p icmp -m icmp --icmp-type 0 -m owner ! --uid-owner 4242 ! --gid-owner 4242": 2,
    "-p icmp -m icmp --icmp-type 0 -m owner ! --uid-owner 4242 --gid-owner 0": 1,
    "-p icmp -m icmp --icmp-type 0 -m owner --socket-exists": 2,
    "-p icmp -m conntrack --ctstate INVALID": 1,
    "-p icmp -m conntrack --ctstate INVALID --ctdir REPLY": 1,
    "-p icmp -m conntrack --ctdir REPLY -m conntrack --ctstate INVALID": 0,
    "-p icmp -m conntrack ! --ctstate DNAT": 3,
    "-p icmp -m conntrack ! --ctstatus NONE": 2,
    "-p icmp -m connmark ! --mark 0x5": 2,
    "-m mark --mark 0x10/0x1": 0,
    "-p icmp -m mark ! --mark 0x10/0x1": 3,
    "-p icmp -m icmp --icmp-type any": 3,
}


@pytest.mark.parametrize("engine", ["nft", "legacy"])
def test_the_kernel_counts_what_the_reader_says(engine):
    """A negated owner matches what is nobody's; INVALID is asked alone; a value beyond its mask never matches."""
    program = f"iptables-{engine}"
    if not shutil.which(f"{program}-restore"):
        pytest.skip(f"{program} is not installed: nobody to ask")
    if os.geteuid():
        pytest.skip("not root: the kernel takes no rule about another user")
    rules = "\n".join(
        ["*filter", *(f":{chain} ACCEPT" for chain in CHAINS["filter"]), *(f"-A OUTPUT {each}" for each in COUNTED), "COMMIT", ""]
    )
    script = f"ip link set lo up\n{program}-restore <<'END'\n{rules}END\nexec {sys.executable} -c '{SEND}' {program}\n"

    done = subprocess.run([*ALONE, "sh", "-e"], input=script, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    counted = {rule: int(packets) for packets, rule in re.findall(r"^\[(\d+):\d+\] -A OUTPUT (.+)$", done.stdout, re.MULTILINE)}
    assert counted == COUNTED
