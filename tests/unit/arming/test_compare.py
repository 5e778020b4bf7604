"""The kernel's rules beside the wanted ones: what may be away, and what may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from failshut.arming.kernel.compare import canonical_text, guarded_devices, without_devices
from failshut.host.sources import load_policy
from failshut.lower import lower
from failshut.model.host import HostFacts
from failshut.model.ruleset import Family, Ruleset
from failshut.model.units import InterfaceName

POLICY = load_policy(str(Path(__file__).parents[2] / "golden/guide/policy.toml")).policy
DEVICES = ("eth0", "usb-0", "we.ird+")


def under_ip(*devices: str) -> Ruleset:
    rules = lower(POLICY, HostFacts(underlay=tuple(map(InterfaceName, devices))))
    return Ruleset(tuple(table for table in rules.tables if table.family is Family.NETDEV))


@pytest.mark.parametrize("away", [("eth0",), ("usb-0",), ("we.ird+",), ("eth0", "we.ird+"), ("eth0", "usb-0"), ("other",), ()])
def test_a_lock_without_some_devices_reads_as_if_compiled_without_them(away):
    """Unplugged, a device takes its chain along on older kernels; the rest is compared as strictly as ever."""
    left = [each for each in DEVICES if each not in away]

    assert without_devices(canonical_text(under_ip(*DEVICES)), away) == canonical_text(under_ip(*left))


def test_devices_that_share_a_chain_are_each_guarded():
    """A device that took the name of one that was renamed hangs on the same chain."""
    assert guarded_devices(under_ip("ens3,foo0")) == ("ens3", "foo0")
