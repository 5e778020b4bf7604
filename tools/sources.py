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


def digest(files: list[Path]) -> str:
    """Return a hash of the files' names and contents."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file}\0{hashlib.sha256((REPOSITORY / file).read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def _git(*words: str) -> str:
    done = subprocess.run(("git", "-C", str(REPOSITORY), *words), capture_output=True, text=True, check=True)
    return done.stdout.strip("\n")
