"""The image, built once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from amount import THOROUGHLY
from boot import roots
from boot.conftest import skip_where_nothing_boots
from container.lab import BUILD
from needed import needs


@pytest.fixture(scope="session")
def image() -> Path:
    """The image's file, built when neither it nor what it is made of is in the cache."""
    if not THOROUGHLY:
        pytest.skip("builds a Debian tree and runs podman: FAILSHUT_THOROUGH=1, as of `make test-thorough`, does")
    skip_where_nothing_boots()
    needs("podman", "crun")
    # The source comes by a mount, so that a change of it needs no new image.
    made_of = (roots.REPOSITORY / "pyproject.toml", BUILD)
    newest = max(each.stat().st_mtime for each in made_of)
    file = roots.cache() / "container.tar"
    with roots.locked(file.with_suffix(".lock")):
        if not file.exists() or file.stat().st_mtime < newest:
            done = subprocess.run((BUILD, file, sys.executable), capture_output=True, text=True, timeout=500, check=False)
            assert done.returncode == 0, done.stderr
    return file
