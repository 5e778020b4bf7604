"""What every boot test shares: whether it can run here at all, the trees, and a machine beside its router."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from amount import thorough
from boot import roots
from boot.machine import Address, Machine
from boot.room import Room
from boot.router import Router
from needed import needs

PROGRAMS = ("systemd-nspawn", "mmdebstrap", "dnsmasq", "wireguard-go", "wg", "ip", "setpriv", "unshare", "nsenter")


def skip_where_nothing_boots() -> None:
    """Skip, with the reason, where no machine can be booted."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it boots a machine in namespaces")
    if not Path("/dev/net/tun").exists():
        pytest.skip("needs /dev/net/tun: the machine's WireGuard runs in user space")
    needs(*PROGRAMS)


@pytest.fixture(scope="session")
def tree_of(request):
    """The tree of a Debian release, built when it is not in the cache yet."""
    skip_where_nothing_boots()

    def say(what: str) -> None:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            sys.stderr.write(f"failshut: {what}\n")

    def tree(root: roots.Root) -> Path:
        try:
            return roots.obtain(root, say)
        except roots.UnreachableError as error:
            pytest.skip(f"needs a Debian mirror to build the {root.name} tree: {error}")

    return tree


@pytest.fixture(params=[pytest.param(roots.BOOKWORM, marks=thorough), roots.TRIXIE], ids=lambda each: each.name)
def tree(request, tree_of):
    """Each Debian release in turn."""
    return tree_of(request.param)


@pytest.fixture(
    params=[Address.DHCP, pytest.param(Address.IFUPDOWN, marks=thorough), pytest.param(Address.STATIC, marks=thorough)], ids=str
)
def machine(request, tree):
    """A machine that is off, beside its router; by DHCP, or thoroughly with each kind of address in turn."""
    with Room() as room, Router(room) as router, Machine(room, router, tree, request.param) as it:
        yield it


@pytest.fixture
def quiet_machine(tree_of):
    """A booted Debian 12 machine with its tunnel up and no noise: for what is asked of commands, not of the cable."""
    with Room() as room, Router(room) as router, Machine(room, router, tree_of(roots.BOOKWORM), Address.STATIC) as it:
        it.systemctl_offline("disable", "noise")
        it.boot()
        yield it
