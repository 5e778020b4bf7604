"""`failshut verify` on a machine that really boots: systemd's own unit brings the tunnel up, and its journal tells of the boot."""

from __future__ import annotations

import json

import pytest

from amount import thorough
from boot import roots
from boot.machine import Address, Machine
from boot.room import Room
from boot.router import Router

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


@pytest.fixture(params=[pytest.param(roots.BOOKWORM, marks=thorough), roots.TRIXIE], ids=lambda each: each.suite)
def armed(request, tree_of):
    """A machine with a DHCP client, booted and armed."""
    with Room() as room, Router(room) as router, Machine(room, router, tree_of(request.param), Address.DHCP) as machine:
        machine.boot()
        assert router.carries(), machine.journal()
        done = machine.run("failshut", "arm")
        assert done.ok, done.complaint
        yield machine


def looked_back(machine) -> tuple[int, dict[str, str], str]:
    """Return what `verify --after-boot` exits with, its answer to each check, and all its words."""
    done = machine.run("failshut", "verify", "--after-boot", "--json")
    checks = json.loads(done.out)["checks"] if done.out else []
    return done.code, {each["name"]: each["answer"] for each in checks}, done.out + done.err


def plant(machine):
    """Put an accept rule in every layer."""
    for chain in ("inet failshut output", "inet failshut postrouting", "netdev failshut admit"):
        assert machine.run("nft", "insert", "rule", *chain.split(), "accept").ok


def test_verify_tells_what_holds_and_what_does_not(armed):
    """One machine: its first boot had no lock, its second has; its lock holds, until it has a hole and no unit any more."""
    a_boot_without_the_lock_is_said(armed)
    the_guides_tests_hold_live_and_systemd_brings_the_tunnel_back(armed)
    after_a_boot_the_lock_was_on_before_the_network_and_disabled_it_is_said(armed)
    a_hole_is_found_live(armed)


def a_boot_without_the_lock_is_said(armed) -> None:
    """Armed by hand, this boot began without it."""
    code, answers, words = looked_back(armed)
    assert (code, answers["before the first interface"]) == (12, "LEAK"), words


def the_guides_tests_hold_live_and_systemd_brings_the_tunnel_back(armed) -> None:
    """The noise sends by every way there is; each packet on the wire is explained, and the unit is active again."""
    done = armed.run("failshut", "verify", "--yes", "--window", "2", timeout=180)

    assert done.code == 0, done.out + done.err
    assert "systemd's unit wg-quick@wg0.service" in done.err
    assert armed.run("systemctl", "is-active", "wg-quick@wg0").ok
    assert armed.router.carries()


def after_a_boot_the_lock_was_on_before_the_network_and_disabled_it_is_said(armed) -> None:
    """Armed before, a boot begins with it; without the unit enabled, it is said."""
    assert armed.reboot() == "running", armed.journal()
    code, answers, words = looked_back(armed)
    assert (code, set(answers.values())) == (0, {"ok"}), words

    assert armed.run("systemctl", "disable", "failshut.service").ok
    code, answers, words = looked_back(armed)
    assert (code, answers["enabled"]) == (12, "LEAK"), words
    assert armed.run("systemctl", "enable", "failshut.service").ok
    assert armed.router.carries()


def a_hole_is_found_live(armed) -> None:
    """The control: without guard and monitor, and with an accept rule in every layer, the noise is on the wire and is seen."""
    assert armed.run("systemctl", "stop", "failshut-monitor", "failshut-guard").ok
    plant(armed)

    done = armed.run("failshut", "verify", "--yes", "--window", "2", timeout=180)

    assert done.code == 12, done.out + done.err
    assert "not sent by verify" in done.err
    assert armed.router.carries()


@thorough
def test_a_hole_that_the_guard_closes_is_void_because_the_tunnel_can_not_carry_either(armed):
    """The guard admits only what the choke point has stamped; a rule before the stamp opens nothing, and closes the tunnel."""
    # It would put the lock right before anything is seen.
    assert armed.run("systemctl", "stop", "failshut-monitor").ok
    plant(armed)

    done = armed.run("failshut", "verify", "--yes", "--window", "2", timeout=180)

    assert done.code == 1, done.out + done.err
    assert "did not see its own frame" in done.err
    assert "leak  " not in done.err
