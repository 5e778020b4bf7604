"""Build a release into dist/: Debian package, wheel, sdist, SBOM, checksums, and the signature of the checksums.

`python tools/release.py [--key FILE]`; FILE is an SSH key (ed25519), or its public half where an agent has the other. From a
commit, never from a changed checkout; the same commit gives the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import deb
import sbom
import sources

SUMS = "SHA256SUMS"
# What `ssh-keygen -Y verify -n` must be told; "file" is what everybody says of files.
NAMESPACE = "file"


def main() -> None:
    """Build, sum up, sign."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--key", type=Path, help="the SSH key to sign with")
    words.add_argument("--output", type=Path, default=sources.REPOSITORY / "dist")
    words.add_argument("--dirty", action="store_true", help="also from a changed checkout, for a try")
    said = words.parse_args()
    if sources.is_changed() and not said.dirty:
        sys.exit("the checkout has changes that no commit has: commit or stash them first")
    if said.key and not said.key.exists():
        sys.exit(f"{said.key} is not there")
    shutil.rmtree(said.output, ignore_errors=True)
    build(said.output)
    sums = sum_up(said.output)
    if said.key:
        sign(sums, said.key)
    else:
        print("not signed: no --key was given", file=sys.stderr)
    for each in sorted(said.output.iterdir()):
        print(each)


def build(output: Path) -> None:
    """Write the package, the wheel, the sdist and the SBOM into `output`."""
    os.environ["SOURCE_DATE_EPOCH"] = str(sources.epoch())
    deb.build(output, sources.version())
    subprocess.run(
        (sys.executable, "-m", "build", f"--outdir={output}", str(sources.REPOSITORY)), check=True, stdout=subprocess.DEVNULL
    )
    sbom.write(output / "failshut.cdx.json")


def sum_up(output: Path) -> Path:
    """Write SHA256SUMS of everything in `output`, as `sha256sum --check` reads it."""
    files = sorted(each for each in output.iterdir() if not each.name.startswith(SUMS))
    lines = (f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}\n" for each in files)
    sums = output / SUMS
    sums.write_text("".join(lines), encoding="utf-8")
    return sums


def sign(sums: Path, key: Path) -> None:
    """Write SHA256SUMS.sig."""
    subprocess.run(("ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(sums)), check=True)


if __name__ == "__main__":
    main()
