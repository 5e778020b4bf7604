"""Ways for the client to send one thing at a target. Each returns how many sends were tried; a refusal is no error here."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from failshut.drill.attacker import craft
from failshut.drill.lab import Lab
from failshut.drill.network.netns import Namespace
from failshut.drill.network.wait import until
from failshut.model.units import Address

# asm-generic/socket.h, linux/in.h, linux/in6.h, linux/if_packet.h: names that Python 3.11 lacks
SO_MARK, IP_PKTINFO, IP_NODEFRAG, IP_UNICAST_IF, IPV6_UNICAST_IF = 36, 8, 22, 50, 76
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
TRIES = 3

Send = Callable[[socket.socket, Address], object]


def family(version: int) -> socket.AddressFamily:
    """Return the socket family of an IP version."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


def bind_to(sock: socket.socket, device: str) -> None:
    """Bind a socket to a device, past every route."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())


def index_of(lab: Lab, device: str) -> int:
    """Return a client's device's index."""
    with lab.client.inside():
        return socket.if_nametoindex(device)


def shoot(lab: Lab, probe: str, version: int, kind: tuple[int, int], send: Send, *, device: str | None = "") -> None:
    """Send `TRIES` times at the probe's own target. `kind` is socket type and protocol; `device` "" is the first cable's."""
    name = f"{probe}, IPv{version}"
    target = lab.target(name).of(version)
    try:
        with lab.sending(family(version), *kind) as sock:
            if device is not None:
                bind_to(sock, device or lab.device)
            lab.extra_sent += attempts(lambda: send(sock, target))
    except OSError as error:
        lab.give_up(name, f"the kernel has no such socket: {error.strerror}")


def attempts(send: Callable[[], object], times: int = TRIES) -> int:
    """Try a send several times; a lock answers with EPERM and the like, which is no failure of the attack."""
    for _ in range(times):
        with contextlib.suppress(OSError):
            send()
    return times


def datagram(port: int = 7002, payload: bytes = b"failshut probe") -> Send:
    """Return a send of one datagram to a port."""
    return lambda sock, target: sock.sendto(payload, (str(target), port))


def connecting(port: int) -> Send:
    """Return a send of one SYN: `connect` on a non-blocking socket."""
    return lambda sock, target: sock.connect((str(target), port))


def pinging(sock: socket.socket, target: Address) -> int:
    """Send an echo request by an unprivileged ping socket; the kernel fills in identifier and checksum."""
    head = struct.pack(">BBHHH", 8 if target.version == 4 else 128, 0, 0, 0, 1)
    return sock.sendto(head + b"failshut", (str(target), 0))


def raw_ip(lab: Lab, packets: Sequence[bytes], version: int, target: Address) -> int:
    """Send whole IP packets by a raw socket that takes the header as it is."""
    with lab.sending(family(version), socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        bind_to(sock, lab.device)
        if version == 4:
            # A lone fragment must reach the lock, not wait for its siblings in the kernel's reassembly.
            sock.setsockopt(socket.SOL_IP, IP_NODEFRAG, 1)
        return sum(attempts(partial(sock.sendto, each, (str(target), 0))) for each in packets)


def frames(host: Namespace, device: str, raw: Sequence[bytes], *, bypass: bool = False, times: int = TRIES) -> int:
    """Send whole Ethernet frames by AF_PACKET, with or without the queueing discipline."""
    with host.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        if bypass:
            sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        return sum(attempts(partial(sock.send, each), times) for each in raw)


def marked_frame(device: str, mark: int, frame: bytes) -> str:
    """Send a frame by AF_PACKET with a mark, in the caller's namespace; return "sent"."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", mark))
        attempts(partial(sock.send, frame))
    return "sent"


def own_udp_frame(lab: Lab, target: Address, ports: tuple[int, int] = (40000, 7002)) -> bytes:
    """Return the frame by which the client would send a datagram to a public address over its first cable."""
    cable = lab.plan.cable
    source = lab.own_address(target.version)
    packet = craft.ip(source, target, 17, craft.udp(source, target, ports, b"failshut probe"))
    return craft.ethernet(cable.router_mac, cable.mac, craft.ethertype_of(target), packet)


def as_user(uid: int, action: Callable[[], str], *, keep: Sequence[int] = ()) -> str:
    """Run `action` in a child with another uid and only the capabilities `keep`; return the word it answers."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _become(uid, action, keep, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    until(lambda: os.waitpid(child, os.WNOHANG) != (0, 0), within=2)
    return answer


def _become(uid: int, action: Callable[[], str], keep: Sequence[int], writing: int) -> NoReturn:
    answer = "nothing"
    try:
        drop_to(uid, keep)
        answer = action()
    except OSError as error:
        answer = error.strerror or "error"
    finally:
        os.write(writing, answer.encode())
        os._exit(0)


def drop_to(uid: int, keep: Sequence[int]) -> None:
    """Become another user with no capability but `keep` (numbers of linux/capability.h)."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.setgroups([])
    if keep:
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgid(uid)
    os.setuid(uid)
    if keep:
        bits = sum(1 << each for each in keep)
        # struct __user_cap_header_struct, version 3, and two __user_cap_data_struct: effective, permitted, inheritable.
        header = struct.pack("=Ii", 0x20080522, 0)
        data = struct.pack("=6I", bits, bits, 0, 0, 0, 0)
        if libc.capset(header, data):
            raise OSError(ctypes.get_errno(), "capset")
