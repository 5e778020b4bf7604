"""Many policies in one process: `check POLICY...` and `plan POLICY... --against DIRECTORY`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from failshut.cli.main import root
from failshut.model.exits import Exit

POLICY = """\
[tunnel.wg0]
endpoints = ["203.0.113.{number}:51820"]

[[allow.inbound]]
name = "ssh"
protocol = "tcp"
port = {port}
from = ["192.168.77.0/24"]
"""


@pytest.fixture
def fleet(tmp_path):
    """Return a function that writes the policies of some hosts into a directory of the name."""

    def write(name, **ports):
        directory = tmp_path / name
        directory.mkdir()
        for number, (host, port) in enumerate(ports.items(), 1):
            (directory / f"{host}.toml").write_text(POLICY.format(number=number, port=port))
        return directory

    return write


def run(*words):
    return CliRunner().invoke(root, [str(each) for each in words])


def test_every_policy_is_checked_and_the_wrong_ones_are_named(fleet):
    new = fleet("new", h1=22, h2=70000, h3=22)

    result = run("check", *sorted(new.iterdir()))

    assert result.exit_code == Exit.USAGE
    assert f"{new}/h2.toml:7:8: error" in result.stderr
    assert "3 policies: 2 sound, 1 not" in result.stderr
    assert json.loads(run("check", "--json", *sorted(new.iterdir())).stdout)["policies"][1]["ok"] is False
    assert run("check", new / "h1.toml", new / "h3.toml").exit_code == Exit.OK


def test_only_what_changes_is_shown_host_by_host(fleet):
    old, new = fleet("old", h1=22, h2=22), fleet("new", h1=22, h2=2222, h3=22)
    paths = sorted(new.iterdir())

    result = run("plan", *paths, "--against", old, "--exit-code")

    assert result.exit_code == Exit.CHANGES
    assert f"{new}/h1.toml" not in result.stdout
    assert '-\t\ttcp dport 22 ip saddr 192.168.77.0/24 accept comment "inbound:ssh"' in result.stdout
    assert '+\t\ttcp dport 2222 ip saddr 192.168.77.0/24 accept comment "inbound:ssh"' in result.stdout
    assert "3 policies: 2 locks would change, 0 are not sound" in result.stdout
    answer = json.loads(run("plan", *paths, "--against", old, "--json").stdout)
    assert [each["changes"] for each in answer["policies"]] == [False, True, True]


def test_one_without_the_other_is_refused(fleet):
    new = fleet("new", h1=22)

    assert run("plan", new / "h1.toml").exit_code == Exit.USAGE
    assert run("plan", "--against", new).exit_code == Exit.USAGE
    assert run("plan", new / "h1.toml", "--against", new / "none").exit_code == Exit.USAGE
