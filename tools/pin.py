"""Write packaging/debian/vendor.txt anew: the versions that the tests ran with, by checksum.

`python tools/pin.py [NAME]…`; NAME is a library to add. What is listed already stays, in this virtual environment's version.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import deb

LIST = deb.DEBIAN / "vendor.txt"
_HEAD = """\
# What Debian 12 has not, or has too old, by checksum; goes into /usr/lib/failshut. pydantic-core is compiled: one file for each
# Python of Debian 12, Ubuntu 24.04 and Debian 13. Written by tools/pin.py.
"""


def main() -> None:
    """Download each wheel for each Python, and write what its checksum is."""
    listed = re.findall(r"^([a-z0-9-]+)==", LIST.read_text(encoding="utf-8"), re.MULTILINE)
    names = sorted({*listed, *sys.argv[1:]})
    with tempfile.TemporaryDirectory() as room:
        deb.download(Path(room), *(f"{name}=={version(name)}" for name in names))
        found = {name: checksums(Path(room), name) for name in names}
    lines = (f"{name}=={version(name)} \\\n" + " \\\n".join(f"    --hash=sha256:{each}" for each in found[name]) for name in names)
    LIST.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def checksums(directory: Path, name: str) -> list[str]:
    """Return the checksums of a library's wheels, whose names have `_` where PyPI's have `-`."""
    wheels = sorted(directory.glob(f"{name.replace('-', '_')}-*.whl"))
    return [hashlib.sha256(each.read_bytes()).hexdigest() for each in wheels]


if __name__ == "__main__":
    main()
