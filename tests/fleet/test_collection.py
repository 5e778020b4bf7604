"""What of the collection needs no host: its version, its variables, and Prometheus' targets from an inventory."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest
import yaml

from failshut import __version__
from fleet.hosts import ANSIBLE, COLLECTION
from metrics.test_metrics import MONITORING, PROMTOOL

_INVENTORY = """\
[failshut]
h1 ansible_host=192.168.77.11
h2 ansible_host=192.168.77.12 failshut_metrics_address=2001:db8::12
vps failshut_metrics_labels='{"role": "server"}'
[others]
h9
[all:vars]
ansible_connection=local
ansible_python_interpreter={{ ansible_playbook_python }}
"""
_PLAY = """
- hosts: h9
  gather_facts: false
  roles:
    - role: failshut.failshut.prometheus_targets
"""


def loaded(path: str):
    return yaml.safe_load((COLLECTION / path).read_text())


@pytest.fixture(scope="module")
def ansible(tmp_path_factory):
    """Return a function that runs one of Ansible's programs with the collection installed."""
    directory = tmp_path_factory.mktemp("ansible")
    places = {"ANSIBLE_HOME": str(directory / "home"), "ANSIBLE_COLLECTIONS_PATH": str(directory / "c")}

    def run(program, *words):
        argv = (ANSIBLE / program, *words)
        env = {**os.environ, **places, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(argv, env=env, cwd=directory, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    run("ansible-galaxy", "collection", "build", str(COLLECTION), "--output-path", str(directory))
    (archive,) = directory.glob("failshut-failshut-*.tar.gz")
    run("ansible-galaxy", "collection", "install", "--offline", "-p", places["ANSIBLE_COLLECTIONS_PATH"], str(archive))
    return run


def test_the_collection_has_the_programs_version():
    assert loaded("galaxy.yml")["version"] == __version__


@pytest.mark.parametrize("role", ["failshut", "prometheus_targets"])
def test_every_variable_of_a_role_is_specified_with_its_default(role):
    options = loaded(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]

    assert {name: each["default"] for name, each in options.items()} == loaded(f"roles/{role}/defaults/main.yml")


def test_roles_and_modules_document_themselves(ansible):
    roles = ansible("ansible-doc", "--json", "-t", "role", "failshut.failshut.failshut", "failshut.failshut.prometheus_targets")
    modules = ansible("ansible-doc", "--json", "failshut.failshut.failshut_lock", "failshut.failshut.failshut_info")

    assert len(json.loads(roles)) == 2
    assert len(json.loads(modules)) == 2


def test_the_inventory_becomes_prometheus_targets(ansible, tmp_path):
    """Read by promtool as Prometheus would."""
    directory = tmp_path / "prometheus"
    (tmp_path / "inventory").write_text(_INVENTORY)
    (tmp_path / "play.yml").write_text(_PLAY)
    play = ("-i", str(tmp_path / "inventory"), str(tmp_path / "play.yml"))
    more = {"prometheus_targets_directory": str(directory), "prometheus_targets_owner": pwd.getpwuid(os.getuid()).pw_name}

    first = ansible("ansible-playbook", "-e", json.dumps(more), *play)
    second = ansible("ansible-playbook", "-e", json.dumps(more), *play)

    assert ("changed=3" in first, "changed=0" in second) == (True, True), second
    (directory / "prometheus.yml").write_text((MONITORING / "prometheus.yml").read_text())
    said = promtool("check", "service-discovery", str(directory / "prometheus.yml"), "failshut")
    found = {(each["labels"]["__address__"], each["labels"]["host"], each["labels"]["role"]) for each in json.loads(said)}
    assert found == {
        ("192.168.77.11:9586", "h1", "client"),
        ("[2001:db8::12]:9586", "h2", "client"),
        ("vps:9586", "vps", "server"),
    }
    assert "SUCCESS" in promtool("check", "rules", str(directory / "alerts.yml"))


def promtool(*words: str) -> str:
    if not Path(PROMTOOL).exists():
        pytest.skip("needs promtool: run `make test`")
    done = subprocess.run((PROMTOOL, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
