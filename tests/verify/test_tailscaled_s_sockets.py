"""What `failshut verify` takes for tailscaled's own: root's sockets with its mark, and no other."""

from __future__ import annotations

import json
import sys

import pytest

pytestmark = pytest.mark.lab

_SOCKETS = """
import json, os, socket
from failshut.model.policy import Policy, Tailscale
from failshut.verify.ground import survey

def bound(kind, port, mark, uid=0):
    os.seteuid(uid)
    sock = socket.socket(socket.AF_INET, kind)
    os.seteuid(0)
    sock.setsockopt(socket.SOL_SOCKET, 36, mark)
    sock.bind(("", port))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock

kept = [
    bound(socket.SOCK_DGRAM, 41641, 0x80000),
    bound(socket.SOCK_STREAM, 50443, 0x80001),
    bound(socket.SOCK_DGRAM, 41642, 0),
    bound(socket.SOCK_DGRAM, 41643, 0x40000),
    bound(socket.SOCK_DGRAM, 41644, 0x80000, uid=1000),
]
print(json.dumps([sorted(survey(Policy((), tailscale=each)).tailscaled) for each in (Tailscale(), None)]))
"""


def test_only_marked_sockets_of_root_are_tailscaled_s(machine):
    """Another mark, another owner, no mark: not; nor any where the policy does not allow Tailscale."""
    done = machine.must(sys.executable, "-c", _SOCKETS)

    assert json.loads(done) == [[[6, 50443], [17, 41641]], []]
