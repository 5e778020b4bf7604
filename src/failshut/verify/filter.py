"""What a tap lets through to Python: all that leaves, and of what comes in only what may open a connection to a service.

A classic BPF program (Documentation/networking/filter.rst): a download through the tunnel must not drown the capture.
"""

from __future__ import annotations

from collections.abc import Iterable

from failshut.host.senders.bpf import Instruction

# linux/filter.h, linux/bpf_common.h, linux/if_packet.h
_LD_WORD, _LD_HALF, _LD_HALF_AT_X, _LDX_HEADER, _IF_EQUAL, _SKIP, _RETURN = 0x20, 0x28, 0x48, 0xB1, 0x15, 0x05, 0x06
_PACKET_TYPE, _PROTOCOL, _NETWORK = 0xFFFFF004, 0xFFFFF000, 0xFFF00000
_HOST, _OUTGOING, _ALL = 0, 4, 0xFFFFFFFF
_IPV4, _IPV6 = 0x0800, 0x86DD


def program(ports: Iterable[int]) -> list[Instruction]:
    """Return the filter: outgoing frames, and incoming IPv4 and IPv6 packets whose transport header begins with a port of ours."""
    ends = [each for port in sorted(set(ports)) for each in ((_IF_EQUAL, 0, 1, port), (_RETURN, 0, 0, _ALL))]
    return [
        (_LD_WORD, 0, 0, _PACKET_TYPE),
        (_IF_EQUAL, 0, 1, _OUTGOING),
        (_RETURN, 0, 0, _ALL),
        (_IF_EQUAL, 1, 0, _HOST),
        (_RETURN, 0, 0, 0),
        (_LD_WORD, 0, 0, _PROTOCOL),
        (_IF_EQUAL, 0, 3, _IPV4),
        (_LDX_HEADER, 0, 0, _NETWORK),
        (_LD_HALF_AT_X, 0, 0, _NETWORK + 2),
        (_SKIP, 0, 0, 3),
        (_IF_EQUAL, 1, 0, _IPV6),
        (_RETURN, 0, 0, 0),
        (_LD_HALF, 0, 0, _NETWORK + 42),
        *ends,
        (_RETURN, 0, 0, 0),
    ]
