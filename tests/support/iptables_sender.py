"""Run in a network namespace of its own: loads rules of iptables, sends packets, and says what each rule counted of each packet.

Reads {"program", "rules", "packets"} as JSON from standard input; prints {"taken": rules that iptables took, "counted": by
packet}.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import struct
import subprocess
import sys

SET_UP = """
ip link set lo up
ip link add d0 type veth peer name d1
ip link set d1 up
ip address add 10.5.0.1/16 broadcast 10.5.255.255 dev d0
ip link set d0 up arp off
ip route add 224.0.0.0/4 dev d0
"""


def table(rules: list[str]) -> str:
    return "\n".join(["*filter", *rules, "COMMIT", ""])


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def icmp(kind: int, identity: int, payload: bytes) -> bytes:
    bare = struct.pack("!BBHHH", kind, 0, 0, identity, 1) + payload
    return bare[:2] + struct.pack("!H", checksum(bare)) + bare[4:]


def send(packet: dict[str, object], number: int) -> None:
    """Send one packet, from a child that owns its socket as another user."""
    child = os.fork()
    if child:
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"{packet} was not sent")
        return
    udp = packet["kind"] == "udp"
    # The file system's user is the owner of the socket that follows; the privilege to mark and to send raw packets stays.
    library = ctypes.CDLL(None)
    library.setfsgid(packet["gid"])
    library.setfsuid(packet["uid"])
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_RAW, 0 if udp else socket.IPPROTO_ICMP)
    out.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("I", packet["mark"]))
    out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for option, value in ((socket.IP_TTL, packet["ttl"]), (socket.IP_TOS, packet["tos"]), (socket.IP_MULTICAST_TTL, packet["ttl"])):
        out.setsockopt(socket.IPPROTO_IP, option, value)
    out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.5.0.1"))
    out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    out.bind((packet["source"], packet["sport"] if udp else 0))
    payload = b"x" * packet["payload"]
    out.sendto(payload if udp else icmp(packet["icmp"], 1000 + number, payload), (packet["target"], packet["dport"] if udp else 0))
    os._exit(0)


def main() -> None:
    work = json.load(sys.stdin)
    program = work["program"]
    subprocess.run(["sh", "-e", "-c", SET_UP], check=True)

    def load(rules: list[str]) -> bool:
        return not subprocess.run(
            [f"{program}-restore"], input=table(rules), text=True, capture_output=True, check=False
        ).returncode

    def counters() -> list[int]:
        saved = subprocess.run([f"{program}-save", "-c"], text=True, capture_output=True, check=True).stdout
        return [int(each) for each in re.findall(r"^\[(\d+):\d+\] -A OUTPUT", saved, re.MULTILINE)]

    taken = [rule for rule in work["rules"] if load([rule])]
    if not load(taken):
        raise RuntimeError("the rules are taken one by one and not together")
    counted = []
    for number, packet in enumerate(work["packets"]):
        before = counters()
        send(packet, number)
        counted.append([after - each for after, each in zip(counters(), before, strict=True)])
    json.dump({"taken": taken, "counted": counted}, sys.stdout)


if __name__ == "__main__":
    main()
