"""What the image is made of, read without running it."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from boot.roots import REPOSITORY
from failshut.config.environment import VARIABLES

FILES = REPOSITORY / "packaging/container"
SCRIPTS = ("build", "failshut", "failshut-container")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_sound(name):
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck: run `make setup`")
    done = subprocess.run(("shellcheck", FILES / name), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_page_has_every_variable_and_no_other():
    page = (REPOSITORY / "docs/guide/container.md").read_text()
    assert re.findall(r"^\| `(FAILSHUT_\w+)`", page, re.MULTILINE) == list(VARIABLES)


def test_the_examples_give_the_lock_one_capability_and_those_that_join_none():
    vpn = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]["vpn"]
    assert (vpn["cap_drop"], vpn["cap_add"]) == (["ALL"], ["NET_ADMIN"])
    assert set(vpn["environment"]) <= set(VARIABLES)
    spec = yaml.safe_load((FILES / "kubernetes.yaml").read_text())["spec"]
    tunnel, app = spec["containers"]
    for each in (*spec["initContainers"], tunnel):
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert app["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    ("key", "values"), [("Address", "10.99.0.2/32 fd99::2/128"), ("DNS", "10.99.0.1"), ("MTU", "1380"), ("Table", "")]
)
def test_the_entrypoint_reads_a_config_as_wg_quick_does(tmp_path, key, values):
    config = tmp_path / "wg0.conf"
    config.write_text("[Interface]\naddress= 10.99.0.2/32 , fd99::2/128 # mine\nMTU = 1380  \nDNS=10.99.0.1\n")
    [reader] = re.findall(r"^of\(\).*$", (FILES / "failshut-container").read_text(), re.MULTILINE)
    done = subprocess.run(
        ("sh", "-c", f'{reader}\nof "$1"', "sh", key),
        env={"config": str(config), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == values.split()
