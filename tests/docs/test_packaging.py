"""What is shipped: the Debian package brings every library that the program asks for, and a release can be checked."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import release
import sources

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PINNED = dict(re.findall(r"^([a-z0-9-]+)==([0-9.]+)", (REPOSITORY / "packaging/debian/vendor.txt").read_text(), re.MULTILINE))
# Debian's names that are not python3- and PyPI's.
_IN_DEBIAN = {"z3-solver": "python3-z3"}


@pytest.mark.parametrize("asked", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["tui"]])
def test_every_library_is_depended_on_or_pinned(asked):
    name, least = re.fullmatch(r"([a-zA-Z0-9-]+)>=([0-9.]+)", asked).groups()
    if name in PINNED:
        assert _number(PINNED[name]) >= _number(least)
        assert f"python3-{name}" not in sources.depended_on(), f"{name} is pinned: Debian 12 has an older one"
    else:
        assert _IN_DEBIAN.get(name, f"python3-{name}") in sources.depended_on(), f"{name}: put it into debian/control or vendor.txt"


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@pytest.mark.parametrize(("change", "is_whole"), [("", True), ("one byte more", False)])
def test_a_release_is_checked_as_the_docs_say(tmp_path, change, is_whole):
    """Its commands stand in docs/reference/install.md."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen")
    key, built = tmp_path / "key", tmp_path / "dist"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
    built.mkdir()
    (built / "failshut.deb").write_text("a package")
    release.sign(release.sum_up(built), key)
    (built / "failshut.deb").write_text(f"a package{change}")
    kind, public, *_ = key.with_suffix(".pub").read_text().split()
    (built / "allowed_signers").write_text(f"failshut-release {kind} {public}\n")
    page = (REPOSITORY / "docs/reference/install.md").read_text()
    (commands,) = re.findall(r"^```\n(ssh-keygen -Y verify.+?)```", page, re.MULTILINE | re.DOTALL)
    done = subprocess.run(("sh", "-ec", commands), cwd=built, capture_output=True, text=True, check=False)

    assert 'Good "file" signature' in done.stdout
    assert (done.returncode == 0) == is_whole
