"""KVM where a kernel really starts in it, else emulation: /dev/kvm can be there, be opened, and run nothing."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from failshut.drill.network.wait import until
from vm.images import Image

EMULATED, VIRTUAL = "tcg", "kvm"
# A kernel that runs has said something within a second.
_PATIENCE = 15


def choose(image: Image, say: Callable[[str], None]) -> str:
    """Return what qemu is told to run the machine by; FAILSHUT_VM_ACCELERATOR decides without a try."""
    if chosen := os.environ.get("FAILSHUT_VM_ACCELERATOR"):
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return EMULATED
    if _says_something(image):
        return VIRTUAL
    say("/dev/kvm is there, but no kernel starts in it; the machines are emulated, and a boot takes a minute or two")
    return EMULATED


def _says_something(image: Image) -> bool:
    with tempfile.NamedTemporaryFile() as console:
        words = "console=ttyS0 earlyprintk=ttyS0 panic=-1"
        qemu = subprocess.Popen(
            (
                *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "512"),
                *("-machine", f"pc,accel={VIRTUAL}", "-cpu", "host", "-serial", f"file:{console.name}"),
                *("-kernel", str(image.kernel), "-initrd", str(image.initramfs), "-append", words),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return until(lambda: qemu.poll() is not None or _spoken(console.name), within=_PATIENCE, step=0.05) and _spoken(
                console.name
            )
        finally:
            qemu.kill()
            qemu.wait()


def _spoken(console: str) -> bool:
    return b"Linux version" in Path(console).read_bytes()
