"""A kernel as its ELF file, which qemu starts as it is: an emulated processor would unpack it for a quarter of a minute."""

from __future__ import annotations

import lzma
import shutil
import subprocess

_ELF, _XZ, _ZSTD, _LZ4 = b"\x7fELF", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18"


def uncompressed(image: bytes) -> bytes:
    """Return the ELF file inside a bzImage. What it can't unpack is returned as it is: that boots too, later."""
    unpackers = ((_XZ, _unxz), (_ZSTD, _by("zstd")), (_LZ4, _by("lz4")))
    for magic, unpack in unpackers:
        at = image.find(magic)
        while at >= 0:
            kernel = unpack(image[at:])
            if kernel.startswith(_ELF):
                return kernel
            at = image.find(magic, at + 1)
    return image


def _unxz(data: bytes) -> bytes:
    try:
        return lzma.LZMADecompressor().decompress(data)
    except lzma.LZMAError:
        return b""


def _by(program: str):
    def unpack(data: bytes) -> bytes:
        if not shutil.which(program):
            return b""
        # What follows the kernel is not its own: the program complains, and has written everything before.
        return subprocess.run((program, "-dc"), input=data, capture_output=True, check=False).stdout

    return unpack
