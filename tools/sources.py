"""What a package is made of: the files of the checkout, the version, and the time that its files bear."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def version() -> str:
    """Return the version that `failshut --version` says."""
    text = (REPOSITORY / "src/failshut/__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def epoch() -> int:
    """Return the time that everything built bears, in seconds since 1970: SOURCE_DATE_EPOCH, else the last commit's."""
    said = os.environ.get("SOURCE_DATE_EPOCH")
    return int(said or _git("log", "-1", "--format=%ct"))


def tracked(*below: str) -> list[Path]:
    """Return the files that git knows of, relative to the checkout, with what is new and not ignored."""
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *below)
    return sorted(Path(each) for each in set(listed.split("\0")) if each and (REPOSITORY / each).is_file())


def is_changed() -> bool:
    """Whether the checkout differs from its last commit."""
    return bool(_git("status", "--porcelain"))


def digest(files: list[Path]) -> str:
    """Return a hash of the files' names and contents."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file}\0{hashlib.sha256((REPOSITORY / file).read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def depended_on() -> tuple[str, ...]:
    """Return the Debian packages that ours depends on."""
    control = (REPOSITORY / "packaging/debian/control").read_text(encoding="utf-8")
    listed = re.search(r"^Depends:\n((?: .+\n)+)", control, re.MULTILINE)[1]
    return tuple(sorted(set(re.findall(r"^ ([a-z0-9-]+)", listed, re.MULTILINE))))


def _git(*words: str) -> str:
    done = subprocess.run(("git", "-C", str(REPOSITORY), *words), capture_output=True, text=True, check=True)
    return done.stdout.strip("\n")
