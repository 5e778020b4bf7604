"""wg removes a control socket that nobody listens on: who looks at tunnels must not come between a program and its own."""

from __future__ import annotations

import sys

import pytest

from sandbox import Sandbox

pytestmark = pytest.mark.lab

SOCKET = "/run/wireguard/wg7.sock"
# As wireguard-go does it, with more time between the two calls than it takes.
BEGIN = f"""
import socket, sys, time
listening = socket.socket(socket.AF_UNIX)
listening.bind("{SOCKET}")
print("bound", flush=True)
sys.stdin.readline()
time.sleep(0.3)
listening.listen()
while True:
    listening.accept()[0].close()
"""
LOOK = "from failshut.host.tunnels.wireguard import fwmark_of, running_tunnels; fwmark_of('wg7'), running_tunnels()"


@pytest.fixture
def beginning():
    """A sandbox, and a program in it whose socket is bound and not listened on."""
    with Sandbox() as sandbox:
        sandbox.run("mkdir", "/run/wireguard")
        process = sandbox.start(sys.executable, "-c", BEGIN)
        assert process.stdout.readline() == "bound\n"
        yield sandbox, process
        process.kill()
        process.communicate()


def test_the_socket_of_a_program_that_begins_is_left_to_it(beginning):
    """The control: wg itself takes it for a dead one's."""
    sandbox, process = beginning
    process.stdin.write("\n")
    process.stdin.flush()

    assert sandbox.run(sys.executable, "-c", LOOK).returncode == 0

    assert sandbox.run("test", "-e", SOCKET).returncode == 0


def test_wg_removes_a_socket_that_nobody_listens_on(beginning):
    sandbox, _ = beginning
    sandbox.run("wg", "show", "all", "dump")

    assert sandbox.run("test", "-e", SOCKET).returncode != 0
