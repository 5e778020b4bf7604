"""Arming ends half-way: the power goes, the disk is full, nft dies. What the next boot finds is the old lock or the new one."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from amount import amount, thorough
from boot.living import arm, assert_armed, assert_that_nothing_leaked_once_armed, judged, status
from boot.machine import Address, Machine
from boot.roots import BOOKWORM

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("tree", [BOOKWORM], indirect=True, ids=["bookworm"]),
    # The address is there before the first process, so that a late lock is seen.
    pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"]),
]

CUTS = amount(usually=1, thoroughly=10)
# With how many broken policies, each in its way, the machine is booted.
BOOTS = amount(usually=2, thoroughly=4)
POLICY = "/etc/failshut/failshut.toml"


def arming_takes(machine: Machine) -> float:
    """Arm, and return the seconds that it took: the moments of the cuts are spread over them."""
    began = time.monotonic()
    assert machine.run("failshut", "arm").ok
    return time.monotonic() - began


def moments(seconds: float, seed: int) -> Iterator[float | None]:
    """Yield when to cut, in seconds after arming began: at once, at random, and never (None: when it is done)."""
    dice = random.Random(seed)  # noqa: S311 - the moments only have to be spread, and the same every time
    yield 0.0
    for _ in range(CUTS):
        yield dice.uniform(0.2, 1.1) * seconds
    yield None


def cut_while_arming(machine: Machine, after: float | None) -> None:
    """Cut the power so many seconds into an arming; None: when it is done."""
    if after is None:
        assert machine.run("failshut", "arm").ok
    else:
        machine.run("sh", "-c", "setsid failshut arm >/dev/null 2>&1 &")
        time.sleep(after)
    machine.power_cut()


def test_a_power_cut_while_arming_anew_leaves_the_old_lock_or_the_new_one(machine):
    """At random moments of a re-arming: nothing leaks in the boot after it, and `status` knows which lock it is."""
    phase = machine.router.wire.phase
    policies = [
        machine.read(POLICY),
        machine.read(POLICY).replace("ndp = true", "ndp = true\n[allow.lan]\nprefixes = ['10.9.0.0/16']"),
    ]
    arm(machine)
    seen = set()
    machine.write(POLICY, policies[1])
    seconds = arming_takes(machine)
    for number, after in enumerate(moments(seconds, seed=20261122)):
        machine.write(POLICY, policies[number % 2])
        with phase(f"cut {number}"):
            cut_while_arming(machine, after)
            machine.boot()
            now = status(machine)
            machine.hear_noise(10)
        assert (now["state"], now["held"]) in {("armed", "current"), ("drift", "last-good")}, now
        is_new = ("10.9.0.0" in machine.run("nft", "list", "ruleset").out) == (number % 2 == 1)
        seen.add(is_new)
        with phase(f"armed again {number}"):
            assert machine.run("failshut", "arm").ok

    assert_that_nothing_leaked_once_armed(machine)
    assert seen == {False, True}, "every cut came on the same side of the switch"


@thorough
def test_a_power_cut_while_arming_first_leaves_no_lock_or_a_whole_one(machine):
    """At random moments of a first arming: the machine is as it never was armed, or locked and nothing leaks."""
    arm(machine)
    assert machine.run("failshut", "disarm", "--yes").ok
    seconds = arming_takes(machine)
    assert machine.run("failshut", "disarm", "--yes").ok
    phases: dict[str, bool] = {}
    for number, after in enumerate(moments(seconds, seed=11)):
        cut_while_arming(machine, after)
        name = f"cut {number}"
        with machine.router.wire.phase(name):
            machine.boot()
            now = status(machine)
            machine.hear_noise(10)
        phases[name] = now["held"] != "none"
        if now["held"] == "none":
            assert "failshut" not in machine.run("nft", "list", "tables").out
            assert machine.run("systemctl", "is-enabled", "failshut").out.strip() != "enabled", now
        else:
            assert now["held"] in {"current", "last-good", "drop-everything"}, now
        assert machine.run("failshut", "arm").ok
        assert machine.run("failshut", "disarm", "--yes").ok
    machine.power_off()
    report = judged(machine)

    for name, locked in phases.items():
        assert locked != (name in report.by_phase), (name, report)
    assert set(phases.values()) == {False, True}, "every cut came on the same side of arming"


def test_a_full_disk_and_a_broken_policy_leave_the_old_lock(machine):
    """Arming fails with a clear word, the kernel and the boot keep the lock they have, whatever has become of the policy."""
    phase = machine.router.wire.phase
    arm(machine)
    before = machine.run("nft", "--stateless", "list", "ruleset").out
    with phase("a full disk"):
        machine.write(POLICY, machine.read(POLICY).replace("ndp = true", "ndp = false"))
        machine.run(
            "sh", "-c", "mount -t tmpfs -o size=1M none /mnt && cp -a /etc/failshut/. /mnt && mount --bind /mnt /etc/failshut"
        )
        machine.run("sh", "-c", "cat /dev/zero >/etc/failshut/filler")
        full = machine.run("failshut", "arm")
        assert full.code == 1
        assert "can't be written: No space left on device" in full.err
        assert machine.run("nft", "--stateless", "list", "ruleset").out == before
        assert machine.run("umount", "/etc/failshut").ok
    for number, text in enumerate(("[tunnel.wg0\n", None, "", "\0\1\2")):
        with phase(f"the policy is {text!r}"):
            if text is None:
                machine.remove(POLICY)
            else:
                machine.write(POLICY, text)
            refused = machine.run("failshut", "arm")
            assert refused.code == 2, refused
            if number < BOOTS:
                machine.reboot()
            assert_armed(machine)
            machine.hear_noise(10)

    assert_that_nothing_leaked_once_armed(machine)


def test_an_nft_that_dies_while_it_loads_at_boot_leaves_nothing_open(machine):
    """Killed in the middle of its first loads, nft has changed nothing, and the loader goes on to the next file."""
    phase = machine.router.wire.phase
    arm(machine)
    with phase("nft is replaced"):
        machine.run("mv", "/usr/sbin/nft", "/usr/sbin/nft.real")
        # The first two loads die with half of their text read, as the out-of-memory killer would have it.
        machine.write(
            "/usr/sbin/nft",
            '#!/bin/sh\ncase "$*" in *armed/*lock.nft) if mkdir /run/died-1 2>/dev/null || mkdir /run/died-2 2>/dev/null; then\n'
            '{ head -c 3000 "$2"; kill -KILL $$; } | /usr/sbin/nft.real -c -f -; fi;; esac\nexec /usr/sbin/nft.real "$@"\n',
        )
        machine.run("chmod", "755", "/usr/sbin/nft")
    with phase("reboot"):
        machine.reboot()
        machine.hear_noise(10)
        assert machine.run("sh", "-c", "ls -d /run/died-*").out.split() == ["/run/died-1", "/run/died-2"]
        assert status(machine)["held"] in {"current", "last-good", "drop-everything"}

    assert_that_nothing_leaked_once_armed(machine)
