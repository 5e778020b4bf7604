"""Classic BPF (Documentation/networking/filter.rst): a program in the kernel that decides what a socket of ours is shown."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

# asm-generic/socket.h
SO_ATTACH_FILTER = 26

# (code, steps to skip if true, steps to skip if false, operand)
Instruction = tuple[int, int, int, int]


def attach(tap: socket.socket, program: Sequence[Instruction]) -> None:
    """Give a socket its filter. Raises OSError where the kernel refuses it."""
    code = b"".join(struct.pack("=HBBI", *each) for each in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many, and where; the kernel copies it before setsockopt returns.
    tap.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(buffer)))
