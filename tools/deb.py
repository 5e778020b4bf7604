"""Build the Debian package from this checkout: `python tools/deb.py [--output DIR] [--version V]`.

What needs the network or this virtual environment is made first (vendored wheels, by checksum; the manual pages); then
dpkg-buildpackage builds from a copy of the tracked files alone. The same checkout gives the same bytes.
"""

from __future__ import annotations

import argparse
import email.utils
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import sources

REPOSITORY = sources.REPOSITORY
DEBIAN = REPOSITORY / "packaging/debian"
# What goes into the package's source, and what else decides how it comes out.
CONTENTS = ("src", "docs", "packaging", "LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md")
MAKERS = ("tools/deb.py", "tools/sources.py")
# Debian 12, Ubuntu 24.04, Debian 13. The wheels of pydantic-core differ; everything else is the same for all.
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORM = "manylinux_2_17_x86_64"


def main() -> None:
    """Build, and print the package's path."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--output", type=Path, default=REPOSITORY / "dist")
    words.add_argument("--version", default=sources.version())
    said = words.parse_args()
    print(build(said.output, said.version))


def build(output: Path, version: str) -> Path:
    """Build version `version` of the package into the directory `output`; return its path."""
    os.environ["SOURCE_DATE_EPOCH"] = str(sources.epoch())
    with tempfile.TemporaryDirectory(prefix="failshut-deb-") as room:
        tree = Path(room, f"failshut-{version}")
        _copy(tree)
        _write_changelog(tree / "debian/changelog", version)
        download(tree / "debian/prepared/vendor", "--require-hashes", f"--requirement={DEBIAN / 'vendor.txt'}")
        _write_manuals(tree / "docs", tree / "debian/prepared/man")
        _run("dpkg-buildpackage", "--build=binary", "--unsigned-changes", "--unsigned-buildinfo", cwd=tree)
        output.mkdir(parents=True, exist_ok=True)
        (built,) = Path(room).glob("*.deb")
        return Path(shutil.copy(built, output / built.name))


def digest() -> str:
    """Return a hash of everything that the package is made of and by."""
    return sources.digest(sources.tracked(*CONTENTS, *MAKERS))


def _copy(tree: Path) -> None:
    for file in sources.tracked(*CONTENTS):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tree / file)
    shutil.copytree(tree / "packaging/debian", tree / "debian")


def _write_changelog(path: Path, version: str) -> None:
    maintainer = re.search(r"^Maintainer: (.+)$", (DEBIAN / "control").read_text(encoding="utf-8"), re.MULTILINE)[1]
    when = email.utils.formatdate(sources.epoch())
    path.write_text(
        f"failshut ({version}) unstable; urgency=medium\n\n"
        f"  * What has changed for users: changelog.gz.\n\n -- {maintainer}  {when}\n",
        encoding="utf-8",
    )


def download(target: Path, *what: str) -> None:
    """Download wheels for every Python that the package works with; `what` is as pip takes it."""
    for python in PYTHONS:
        _run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={python}", f"--platform={PLATFORM}"),
            *(f"--dest={target}", *what),
        )


def _write_manuals(docs: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as trees:
        _run(sys.executable, "-m", "sphinx", "-b", "man", "-q", "-d", trees, str(docs), str(target))


def _run(*argv: str, cwd: Path | None = None) -> None:
    done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{argv[0]} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    main()
