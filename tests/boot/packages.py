"""Our own Debian package, built once for what it is made of, and what a machine does with it."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import deb
import pytest

from boot.machine import Machine
from boot.roots import REPOSITORY
from failshut.host.run import Result
from needed import needs

_NEEDED = ("dpkg-buildpackage", "dh", "dpkg-deb")
# What changes by itself while a machine lives.
_ALIVE = ("proc", "sys", "dev", "run", "tmp", "root", "var/tmp", "var/log", "var/cache", "var/lib/dpkg", "var/lib/systemd")


@functools.cache
def package() -> Path:
    """Return the package of this checkout, built when the cache has none of the same contents."""
    needs(*_NEEDED)
    if find_spec("sphinx") is None or find_spec("myst_parser") is None:
        pytest.skip("needs Sphinx and MyST for the manual pages: run `make test`")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "failshut/packages" / deb.digest()
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(kept.glob("*.deb")):
            argv = (sys.executable, str(REPOSITORY / "tools/deb.py"), f"--output={kept}")
            # Packing it as small as can be takes as long as all else.
            quickly = {**os.environ, "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env=quickly)
            if any(each in done.stderr for each in ("NewConnectionError", "Temporary failure", "No matching distribution")):
                pytest.skip(f"needs PyPI for the package's libraries: {done.stderr.strip().splitlines()[-1]}")
            assert done.returncode == 0, done.stderr
    (built,) = kept.glob("*.deb")
    return built


def newer(built: Path, directory: Path) -> Path:
    """Return the same package with a version above its own, which the program says too."""
    tree, result = directory / "newer", directory / "newer.deb"
    _must("dpkg-deb", "--raw-extract", str(built), str(tree))
    _replace(tree / "DEBIAN/control", r"^(Version: .+)$", r"\1+newer")
    (said,) = tree.glob("usr/lib/failshut/lib/python3/site-packages/failshut/__init__.py")
    _replace(said, r'^(__version__ = ".+)"$', r'\1+newer"')
    _must("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(result))
    return result


def bring(machine: Machine, built: Path) -> str:
    """Put a file on the machine's disk; return its path there."""
    machine.room.do("cp", str(built), f"{machine.disk}/opt/{built.name}")
    return f"/opt/{built.name}"


def dpkg(machine: Machine, *words: str) -> Result:
    """Run dpkg in the machine."""
    return machine.run("dpkg", "--force-unsafe-io", *words, timeout=240)


def snapshot(machine: Machine) -> list[str]:
    """Return what stands on the disk and which units there are: everything but what changes by itself."""
    pruned = " -o ".join(f"-path /{each}" for each in _ALIVE)
    script = f"""
        find / -xdev \\( {pruned} \\) -prune -o ! -name __pycache__ ! -name '*.pyc' ! -type d -printf '%p %m %u %s %l\\n'
        find /etc /usr/lib/failshut /var/lib -xdev -type d -printf '%p/\\n' 2>/dev/null
        find /etc -xdev -type f -exec sha256sum {{}} +
        systemctl list-unit-files --no-legend --no-pager
        systemctl list-units --all --plain --no-legend --no-pager 'failshut*'
        true
    """
    done = machine.run("sh", "-c", script)
    assert done.ok, done.complaint
    return sorted(done.out.splitlines())


def _replace(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{path}: {pattern}"
    path.write_text(text)


def _must(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)


_RENEWED = ("pip", "setuptools", "wheel")


def wheel_house(directory: Path, machine: Machine) -> Path:
    """Return a directory with our wheel, what it needs on the machine's Python, and what pipx renews first."""
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = machine.room.do("chroot", machine.disk, "python3", "-c", asked).strip()
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _must(*pip, "wheel", "--no-deps", f"--wheel-dir={directory}", str(REPOSITORY))
    (ours,) = directory.glob("failshut-*.whl")
    _must(*pip, "download", "--only-binary=:all:", f"--python-version={python}", f"--dest={directory}", str(ours), *_RENEWED)
    return directory
