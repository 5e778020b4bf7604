"""Disks with Debian on them, its stock kernel and an initramfs: built once from a tree, kept in the user's cache, never changed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from boot.machine import NOISE_UNIT
from boot.roots import SOURCE, Root, build, cache, locked, must
from vm import early
from vm.kernel import uncompressed

# The kernel, and what of an initramfs is not in the tree of a container. busybox: a shell and a sender for the initramfs.
# network-manager: the other manager beside systemd-networkd; off until a test asks for it.
_PACKAGES = ("linux-image-amd64", "udev", "initramfs-tools", "busybox", "lz4", "network-manager")
# What the machine is made of, and no more: every module is loaded by an emulated processor.
_PREPARE = f"""
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\\nCOMPRESS=lz4\\nRESUME=none\\n' > "$1/etc/initramfs-tools/conf.d/machine"
printf '%s\\n' virtio_pci virtio_blk virtio_net virtio_console ext4 > "$1/etc/initramfs-tools/modules"
mkdir -p "$(dirname "$1/{early.PATH}")"
printf %s '{early.SCRIPT}' > "$1/{early.PATH}"
chmod 755 "$1/{early.PATH}"
"""
# What would only take its time: a machine without a screen, without users, that lives for an hour.
_LATE = (
    *("systemd-logind", "systemd-networkd-wait-online", "systemd-networkd-persistent-storage"),
    *("modprobe@drm", "modprobe@configfs", "modprobe@fuse", "systemd-modules-load", "systemd-random-seed", "systemd-user-sessions"),
    *("systemd-timesyncd", "systemd-pstore", "systemd-hwdb-update", "systemd-journal-flush", "systemd-udev-settle", "getty@tty1"),
)
_NEEDLESS = (
    *_LATE,
    "serial-getty@ttyS0",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap",
    "logrotate.timer",
)
_AGENT = """\
[Unit]
Description=Does what the test asks for, by a serial port
DefaultDependencies=no

[Service]
ExecStart=@/usr/bin/python3 @agent -I -S -E /usr/local/lib/agent.py
Restart=always
RestartSec=100ms

[Install]
WantedBy=sysinit.target
"""
_PATIENCE = "[Manager]\n" + "".join(f"Default{each}Sec=15min\n" for each in ("TimeoutStart", "TimeoutStop", "DeviceTimeout"))
_NETWORK = "[Match]\nType=ether\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=yes\n"
_WRAPPER = f"""\
#!/bin/sh
# The source is another's, and read-only: what Python compiles is kept here.
PYTHONPYCACHEPREFIX=/var/cache/failshut-source PYTHONPATH={SOURCE}:/opt/failshut/lib exec python3 -m failshut "$@"
"""
_FILES = {
    "etc/systemd/system/noise.service": NOISE_UNIT,
    "etc/systemd/system/agent.service": _AGENT,
    "etc/systemd/network/10-cable.network": _NETWORK,
    "etc/fstab": f"/dev/vdb {SOURCE} ext4 ro,noatime 0 0\n",
    "etc/hostname": "machine\n",
    # An emulated processor that others use too needs more than a minute and a half for what takes a second.
    "etc/systemd/system.conf.d/patience.conf": _PATIENCE,
}
_UNITS = ("noise", "agent", "systemd-networkd", "wg-quick@wg0")
# In megabytes; most of it is a hole in the file.
_SIZE = 3000


@dataclass(frozen=True, slots=True)
class Image:
    """A Debian release with its kernel."""

    root: Root

    @property
    def name(self) -> str:
        """The release."""
        return self.root.suite

    @property
    def path(self) -> Path:
        """Where the finished image lies."""
        recipe = (*self.root.recipe, *_NEEDLESS, *_FILES.values(), *_UNITS, _WRAPPER, str(_SIZE))
        digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
        return cache().with_name("images") / f"{self.name}-{digest}"

    @property
    def disk(self) -> Path:
        """The file system, without partitions."""
        return self.path / "disk"

    @property
    def kernel(self) -> Path:
        """Debian's kernel."""
        return self.path / "kernel"

    @property
    def initramfs(self) -> Path:
        """What Debian's own tools made for it."""
        return self.path / "initramfs"


BOOKWORM = Image(Root("vm-bookworm", "bookworm", "3.11", _PACKAGES, _PREPARE))
TRIXIE = Image(Root("vm-trixie", "trixie", "3.13", _PACKAGES, _PREPARE))


def obtain(image: Image, say: Callable[[str], None]) -> Image:
    """Build the image when it is not there yet; `say` is told when that takes a while."""
    path = image.path
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            say(f"building a Debian machine in {path} (once, some minutes)")
            # Under another name, so that an image that is there is whole.
            unfinished = path.with_suffix(".part")
            _build(image, unfinished)
            unfinished.rename(path)
    return image


def _build(image: Image, unfinished: Path) -> None:
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    tree = unfinished / "tree"
    build(image.root, tree)
    for path, text in _FILES.items():
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).write_text(text)
    (tree / "usr/local/bin/failshut").write_text(_WRAPPER)
    must(("systemctl", "--quiet", f"--root={tree}", "enable", *_UNITS))
    must(("systemctl", "--quiet", f"--root={tree}", "mask", *_NEEDLESS))
    for stamp in ("etc/.updated", "var/.updated"):
        (tree / stamp).touch()
    compressed = next((tree / "boot").glob("vmlinuz-*"))
    (unfinished / "kernel").write_bytes(uncompressed(compressed.read_bytes()))
    shutil.copy(next((tree / "boot").glob("initrd.img-*")), unfinished / "initramfs")
    must(("mkfs.ext4", "-q", "-F", "-d", str(tree), str(unfinished / "disk"), f"{_SIZE}M"))
    shutil.rmtree(tree)
