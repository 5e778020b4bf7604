"""A program that sends by every way there is, from the earliest moment of a boot to the last; it runs inside the machine.

Only what the interpreter loads fast: `socket` alone takes as long as the lock does. Every error is ignored and tried again.
"""

from __future__ import annotations

import _socket as socket
import errno
import os
import struct
import time

# What each kind is sent to, and known by when it is seen on the cable.
TARGETS = {
    "udp": "198.51.100.11",
    "tcp": "198.51.100.12",
    "icmp": "198.51.100.13",
    "raw": "198.51.100.14",
    "packet": "198.51.100.15",
    "bypass": "198.51.100.16",
    "udp6": "2001:db8::17",
}
PORT = 7007
TAG = b"failshut boot noise"
PERIOD = 0.01
# One of each group in a period, in turns: what is open for a period is seen, and for three periods by every way.
TURNS = (("udp", "icmp", "raw"), ("packet", "udp6", "bypass"), ("tcp",))
# One line a kind: its name, how often it was tried, how often the kernel took it.
COUNTS = "/run/failshut-noise"
# asm-generic/socket.h, linux/if_packet.h, net/if_arp.h; IANA's protocol number for experiments.
SOL_PACKET, PACKET_QDISC_BYPASS, ARPHRD_ETHER, EXPERIMENT = 263, 20, 1, 253
# So that some are open whenever the tunnel goes away; a new one takes as many packets as all else that is sent meanwhile.
CONNECTIONS, OPEN_EVERY = 64, 10


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _echo_request() -> bytes:
    body = TAG + b"!"
    head = struct.pack("!BBHHH", 8, 0, 0, 7, 7)
    return struct.pack("!BBHHH", 8, 0, _checksum(head + body), 7, 7) + body


def _frame(source: bytes, target: str) -> bytes:
    """Return an Ethernet frame for everybody on the link, with a UDP datagram in it."""
    udp = struct.pack("!HHHH", PORT, PORT, 8 + len(TAG), 0) + TAG
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton(target)
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP)
    total = _checksum(head + b"\0\0" + addresses)
    return b"\xff" * 6 + source + b"\x08\x00" + head + struct.pack("!H", total) + addresses + udp


def _udp(target: str) -> None:
    sender = socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sender.sendto(TAG, (target, PORT))
    finally:
        sender.close()


def _raw(protocol: int, content: bytes, target: str) -> None:
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
    try:
        sender.sendto(content, (target, 0))
    finally:
        sender.close()


# Kept: closing one waits until no processor can still be in it, longer than a period.
_taps: dict[tuple[str, bool], socket.socket] = {}


def _tap(device: str, *, bypass: bool) -> socket.socket:
    if (device, bypass) not in _taps:
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        tap.bind((device, 0))
        if bypass:
            tap.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        _taps[device, bypass] = tap
    return _taps[device, bypass]


def _packet(target: str, *, bypass: bool) -> None:
    """Send under IP, by every Ethernet device."""
    sent, failure = False, OSError()
    for _, device in socket.if_nameindex():
        tap = _tap(device, bypass=bypass)
        _, _, _, kind, address = tap.getsockname()
        if kind != ARPHRD_ETHER:
            continue
        try:
            tap.send(_frame(address, target))
            sent = True
        except OSError as error:
            failure = error
            if error.errno in (errno.ENXIO, errno.ENODEV):
                # The device is gone; one of its name may come.
                _taps.pop((device, bypass)).close()
    if not sent:
        raise failure


_open: list[socket.socket] = []
_turn = 0


def _tcp(target: str) -> None:
    """Say something on the next connection; every so often, and where there is none, open one more first."""
    global _turn  # noqa: PLW0603 - how often it was called
    failure = None
    if not _open or _turn % OPEN_EVERY == 0:
        try:
            _open_one(target)
        except OSError as error:
            failure = error
    _turn += 1
    if _open:
        # Each in its turn: what one has said and nobody has acknowledged keeps back what it says next.
        place = _turn % len(_open)
        try:
            _open[place].send(TAG)
        except BlockingIOError:
            pass
        except OSError:
            _open.pop(place).close()
    if failure:
        raise failure


def _open_one(target: str) -> None:
    """Open one more connection, and close the oldest of too many."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sender.setblocking(False)
    try:
        sender.connect((target, PORT))
    except BlockingIOError:
        _open.append(sender)
    except OSError:
        sender.close()
        raise
    while len(_open) > CONNECTIONS:
        _open.pop(0).close()


SENDERS = {
    "udp": _udp,
    "tcp": _tcp,
    "icmp": lambda target: _raw(socket.IPPROTO_ICMP, _echo_request(), target),
    "raw": lambda target: _raw(EXPERIMENT, TAG, target),
    "packet": lambda target: _packet(target, bypass=False),
    "bypass": lambda target: _packet(target, bypass=True),
    "udp6": _udp,
}


def main() -> None:
    """Send for ever."""
    tried, taken = dict.fromkeys(SENDERS, 0), dict.fromkeys(SENDERS, 0)
    turn = 0
    while True:
        began = time.monotonic()
        for group in TURNS:
            kind = group[turn % len(group)]
            tried[kind] += 1
            try:
                SENDERS[kind](TARGETS[kind])
                taken[kind] += 1
            except OSError:
                continue
        if turn % 10 == 0:
            _publish(tried, taken)
        turn += 1
        time.sleep(max(0.0, began + PERIOD - time.monotonic()))


def _publish(tried: dict[str, int], taken: dict[str, int]) -> None:
    try:
        with open(COUNTS + ".new", "w") as file:  # noqa: PTH123 - pathlib takes longer to load than a boot's first packets to leave
            file.write("".join(f"{kind} {tried[kind]} {taken[kind]}\n" for kind in SENDERS))
        os.replace(COUNTS + ".new", COUNTS)  # noqa: PTH105 - as above
    except OSError:
        return


if __name__ == "__main__":
    main()
