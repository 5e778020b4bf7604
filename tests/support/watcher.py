"""Notes the IP packets that arrive on some devices of a network namespace; a program of its own, told to stop by a line."""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from ipaddress import ip_address

SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 33, 263, 6
ETH_P_ALL, ETH_HEADER = 3, 14
PACKET_OUTGOING = 4
ARPHRD_NONE = 0xFFFE
NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
TRANSPORT = 51820


def packet(data: bytes, device: str) -> dict[str, object] | None:
    """Return what a packet says; None for ARP, and for what keeps a link alive."""
    version = data[0] >> 4 if data else 0
    if version == 4:
        protocol, source, target, rest = data[9], data[12:16], data[16:20], data[(data[0] & 15) * 4 :]
    elif version == 6:
        protocol, source, target, rest = data[6], data[8:24], data[24:40], data[40:]
        # A listener report has a router alert before it (RFC 3810, 5).
        if protocol == 0 and len(rest) >= 2:
            protocol, rest = rest[0], rest[(rest[1] + 1) * 8 :]
    else:
        return None
    name = NAMES.get(protocol, str(protocol))
    port = struct.unpack_from("!H", rest, 2)[0] if name in ("tcp", "udp") and len(rest) >= 4 else 0
    skip = {"tcp": (rest[12] >> 4) * 4 if len(rest) > 12 else 0, "udp": 8}.get(name, 0)
    if (name == "udp" and device == "cable" and port == TRANSPORT) or (name == "icmpv6" and rest and 130 <= rest[0] <= 143):
        return None
    hops = data[8] if version == 4 else data[7]
    ends = {"source": str(ip_address(source)), "target": str(ip_address(target)), "port": port, "hops": hops}
    return {"device": device, "protocol": name, **ends, "payload": rest[skip : skip + 32].decode("latin-1")}


def listen(device: str) -> socket.socket:
    """Listen on a device with room for a storm."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
    sock.bind((device, ETH_P_ALL))
    sock.setblocking(False)
    return sock


def drain(sock: socket.socket, header: int, frames: list[dict[str, object]]) -> None:
    """Read all that is there."""
    while True:
        try:
            data, (device, _, kind, *_) = sock.recvfrom(65536)
        except BlockingIOError:
            return
        noted = packet(data[header:], device) if kind != PACKET_OUTGOING else None
        if noted:
            frames.append(noted)


def main(devices: list[str]) -> None:
    frames: list[dict[str, object]] = []
    socks = [listen(each) for each in devices]
    # A tunnel's device carries no link header.
    headers = {sock: 0 if sock.getsockname()[3] == ARPHRD_NONE else ETH_HEADER for sock in socks}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    stop = False
    while not stop:
        ready, _, _ = select.select([*socks, sys.stdin], [], [])
        stop = sys.stdin in ready
        for sock, header in headers.items():
            drain(sock, header, frames)
    dropped = sum(struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1] for sock in socks)
    sys.stdout.write(json.dumps({"frames": frames, "dropped": dropped}))


if __name__ == "__main__":
    main(sys.argv[1:])
