"""A program of the machine's: sockets that belong to the witness' user and group and wear its mark."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator

from failshut.drill.attacker import craft
from failshut.drill.attacker.senders import IP_NODEFRAG, SO_MARK, bind_to
from failshut.drill.network.netns import Namespace
from failshut.drill.replay.build import Flow
from failshut.drill.replay.candidate import Candidate
from failshut.drill.replay.network import Device
from failshut.model.units import Address

# asm-generic/socket.h, linux/in.h
SO_PRIORITY, IP_FREEBIND, IPV6_FREEBIND = 12, 15, 78

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def as_user(uid: int, gid: int) -> Iterator[None]:
    """Make sockets that belong to a user and group: the kernel notes both when a socket is made (sock->file->f_cred).

    setfsuid(2) moves this thread alone, and takes no network capability away.
    """
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(os.getuid())
        _libc.setfsgid(os.getgid())


def make(machine: Namespace, candidate: Candidate, kind: tuple[int, int, int], *, marked: bool = True) -> socket.socket:
    """Return a socket of the witness' program. `kind` is family, type and protocol."""
    with machine.inside(), as_user(candidate.number("skuid"), candidate.number("skgid")):
        sock = socket.socket(*kind)
    if marked:
        sock.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", candidate.number("mark")))
    if priority := candidate.number("priority"):
        sock.setsockopt(socket.SOL_SOCKET, SO_PRIORITY, priority)
    sock.setblocking(False)
    return sock


def send_packet(machine: Namespace, candidate: Candidate, packet: bytes, times: int = 1) -> str:
    """Send a whole IP packet by a raw socket; return what the kernel said against it, or nothing."""
    if candidate.family == 4:
        sock = make(machine, candidate, (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if packet[6:8] != b"\0\0":
            # A lone fragment must reach the rules, not wait for its siblings in the kernel's reassembly.
            sock.setsockopt(socket.SOL_IP, IP_NODEFRAG, 1)
    else:
        sock = make(machine, candidate, (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW))
    with sock:
        scope = 0
        if needs_device(candidate.target):
            bind_to(sock, candidate.first_device)
            with machine.inside():
                scope = socket.if_nametoindex(candidate.first_device)
        where = (str(candidate.target), 0) if candidate.family == 4 else (str(candidate.target), 0, 0, scope)
        return _try(lambda: sock.sendto(packet, where), times)


def needs_device(target: Address) -> bool:
    """Whether no route leads to an address: a group's, this link's, everybody's, loopback's."""
    return target.is_multicast or target.is_link_local or target.is_loopback or str(target) == "255.255.255.255"


def _try(send: object, times: int) -> str:
    said = ""
    for _ in range(times):
        try:
            send()  # type: ignore[operator] # a lambda of ours
        except OSError as error:
            said = error.strerror or str(error)
    return said


def send_frame(machine: Namespace, candidate: Candidate, device: Device, packet: bytes, times: int = 1) -> str:
    """Send a frame below IP by AF_PACKET; return what the kernel said against it, or nothing."""
    kind = {4: 0x0800, 6: 0x86DD}.get(candidate.family, candidate.number("ethertype"))
    target, source = (_mac(candidate.number(f"ether {each}")) for each in ("daddr", "saddr"))
    frame = craft.ethernet(target or device.far_mac, source or device.mac, kind, packet)
    with make(machine, candidate, (socket.AF_PACKET, socket.SOCK_RAW, 0)) as sock:
        sock.bind((device.name, 0))
        return _try(lambda: sock.send(frame), times)


def _mac(number: int) -> str:
    return number.to_bytes(6, "big").hex(":") if number else ""


def connecting(machine: Namespace, candidate: Candidate, flow: Flow) -> socket.socket:
    """Return a TCP socket that has begun to connect, from the flow's source and port. Raises OSError."""
    sock = _stream(machine, candidate, flow.source, flow.source_port)
    try:
        sock.connect((str(flow.target), flow.target_port))
    except BlockingIOError:
        return sock
    except OSError:
        sock.close()
        raise
    return sock


def listening(machine: Namespace, candidate: Candidate, flow: Flow) -> socket.socket:
    """Return a TCP socket that listens on the flow's source and port. Raises OSError."""
    sock = _stream(machine, candidate, flow.source, flow.source_port)
    sock.listen(1)
    return sock


def _stream(machine: Namespace, candidate: Candidate, address: Address, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    # Marked from the first packet on: what is established and marked was marked when it began.
    sock = make(machine, candidate, (family, socket.SOCK_STREAM, 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # No orphan goes on sending after the test.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    level, option = (socket.SOL_IP, IP_FREEBIND) if address.version == 4 else (socket.IPPROTO_IPV6, IPV6_FREEBIND)
    sock.setsockopt(level, option, 1)
    try:
        sock.bind((str(address), port))
    except OSError:
        sock.close()
        raise
    return sock


def say(sock: socket.socket, token: bytes, times: int = 1) -> str:
    """Send on a connected socket; return what the kernel said against it, or nothing."""
    return _try(lambda: sock.send(token), times)
