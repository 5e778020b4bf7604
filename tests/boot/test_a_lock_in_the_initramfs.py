"""The lock in an initramfs that initramfs-tools has made: loaded by what is in there, and let go by a machine that was disarmed.

The network that comes up in it is in tests/vm: a container has no initramfs.
"""

from __future__ import annotations

import pytest

from boot.machine import Address, Machine
from boot.roots import WORKSHOP
from boot.router import POLICY

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
# initramfs-tools asks no more of a kernel than its name, a list of its modules, and what it can unpack.
_KERNEL = "6.1.0-test"
_MAKE = f"""
set -e
mkdir -p /usr/lib/modules/{_KERNEL}/kernel/net
cd /usr/lib/modules/{_KERNEL}
touch modules.order modules.builtin modules.builtin.modinfo modules.dep
depmod {_KERNEL}
printf 'CONFIG_RD_%s=y\\n' GZIP ZSTD > /boot/config-{_KERNEL}
touch /boot/vmlinuz-{_KERNEL}
update-initramfs -c -k {_KERNEL}
"""
_UNPACK = f"rm -rf /var/initramfs && unmkinitramfs /boot/initrd.img-{_KERNEL} /var/initramfs"
# As its init would, in a network of its own: first the lock, then what looks at the root file system.
_RUN = """
set -e
ip link set lo up
mkdir -p /var/initramfs/proc /var/initramfs/dev /var/initramfs/root
mount --bind /proc /var/initramfs/proc
mount --bind /dev /var/initramfs/dev
mount --bind "$1" /var/initramfs/root
chroot /var/initramfs /scripts/init-top/failshut
nft list chain inet failshut postrouting
echo then
ip link add host0 type veth peer name other
nft list ruleset netdev
echo then
rootmnt=/root chroot /var/initramfs /scripts/init-bottom/failshut
nft list ruleset
"""
# The same for the root's own loader, which systemd runs as a generator.
_GENERATE = """
set -e
sh /etc/failshut/load generator ''
ip link add host0 type veth peer name other
nft list ruleset netdev
echo then
sh /etc/failshut/load generator ''
nft list ruleset
"""
_HELD = 'hook egress device "host0"'


@pytest.fixture
def tree(tree_of):
    """A Debian 12 with initramfs-tools."""
    return tree_of(WORKSHOP)


def run_it(machine: Machine, root: str) -> tuple[str, str, str]:
    """Run the initramfs's scripts: return the choke point, what holds a card that has just come, and the rules at the end."""
    assert machine.run("sh", "-c", _UNPACK).ok
    done = machine.run("unshare", "--net", "--mount", "sh", "-c", _RUN, "sh", root)
    assert done.ok, done.complaint
    lock, early, rules = done.out.split("then\n")
    return lock, early, rules


@pytest.mark.parametrize("machine", [Address.STATIC], indirect=True, ids=["static"])
def test_an_initramfs_loads_the_sealed_lock_and_lets_it_go_on_a_machine_that_was_disarmed(machine):
    machine.systemctl_offline("disable", "noise")
    machine.boot()
    assert machine.run("sh", "-c", _MAKE).ok
    machine.write("/etc/failshut/failshut.toml", POLICY + "[boot]\ninitramfs = true\n")
    armed = machine.run("failshut", "arm")
    assert armed.ok, armed.complaint
    assert machine.run("stat", "-c", "%a", f"/boot/initrd.img-{_KERNEL}").out == "600\n"

    lock, early, rules = run_it(machine, "/")

    # Not the one that drops everything, which a damaged lock gives way to.
    assert 'drop comment "shut"' in lock
    assert "table inet failshut" in rules
    assert (_HELD in early, _HELD in rules) == (False, True), "a card whose driver comes after the lock"
    done = machine.run("unshare", "--net", "sh", "-c", _GENERATE)
    assert done.ok, done.complaint
    early, rules = done.out.split("then\n")
    assert (_HELD in early, _HELD in rules) == (False, True), "one that nobody held before the root was switched"

    # The initramfs of before, and a root file system without a lock.
    assert machine.run("mkdir", "-p", "/var/disarmed").ok
    lock, _, rules = run_it(machine, "/var/disarmed")
    assert 'drop comment "shut"' in lock
    assert "failshut" not in rules

    assert machine.run("failshut", "disarm", "--yes").ok
    assert machine.run("sh", "-c", _UNPACK).ok
    assert not machine.run("ls", "/var/initramfs/scripts/init-top/failshut").ok
