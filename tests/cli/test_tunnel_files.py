"""Tunnels' configs that no one should trust, or that are something else: said by `check` and `init`, with file and line."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from failshut.cli.main import root
from failshut.model.exits import Exit

KEY = "ZmFpbHNodXQgZXhhbXBsZSBrZXksIG5vdCBzZWNyZXQ="
OVPN = f"client\ndev tun0\nremote 203.0.113.10 1194\n<key>\n{KEY}\n</key>\n"


@pytest.fixture
def config(tmp_path):
    """Return a sound OpenVPN config, and a policy beside it that names it."""
    file = tmp_path / "office.ovpn"
    file.write_text(OVPN)
    file.chmod(0o600)
    (tmp_path / "policy.toml").write_text('[tunnel.tun0]\nconfig = "office.ovpn"\n')
    return file


def check(config):
    """Run `failshut check`."""
    return CliRunner().invoke(root, ["check", "--policy", str(config.parent / "policy.toml")])


def test_a_sound_config_is_no_finding(config):
    """The control of the rest."""
    result = check(config)

    assert result.exit_code == Exit.OK, result.output
    assert "tun0 to 203.0.113.10:1194" in result.output
    assert "warning" not in result.output


def test_a_config_that_every_user_may_write_is_refused(config):
    """Who writes it decides where the tunnel goes: at the line of its key."""
    config.chmod(0o666)

    result = check(config)

    assert result.exit_code == Exit.USAGE
    assert f"{config}:4:1: error[T017]" in result.output
    assert KEY not in result.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_config_of_another_user_is_said(config):
    """A warning: it may be meant."""
    os.chown(config, 65534, 65534)

    result = check(config)

    assert result.exit_code == Exit.OK
    assert f"{config}:4:1: warning[T017]" in result.output
    assert "nobody" in result.output


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"client\ndev tun0\n", "T006"),
        (b"client\n" * 2_000_000, "T002"),
        (b"\x7fELF\0\0", "T002"),
        (b"client\ndev tun0\nremote 203.0.113.10 70000\n", "T004"),
        (b"client\ndev tun0\n<connection>\nremote 203.0.113.10\n", "T003"),
        (b"client\ndev tun0\nremote 203.0.113.10\nuser no-such-user-here\n", "P021"),
        (b"dev tun0\nserver 10.8.0.0 255.255.255.0\nproto udp\n", "T002"),
    ],
    ids=["half a config", "14 MB", "a program", "a port of 70000", "an open block", "no such user", "a server's"],
)
def test_bad_input_is_found_before_anything_is_changed(config, content, code):
    """By `check`; and `init` writes no policy for it."""
    config.write_bytes(content)

    result = check(config)
    adopted = CliRunner().invoke(root, ["init", str(config), "--policy", str(config.parent / "new.toml")])

    assert result.exit_code == Exit.USAGE
    assert f"error[{code}]" in result.output, result.output
    assert str(config) in result.output
    assert adopted.exit_code != Exit.OK
    assert not (config.parent / "new.toml").exists()


def test_an_openvpn_config_is_adopted_by_its_path(config):
    """The device of its `dev` is the tunnel's name, whatever the file is called."""
    target = config.parent / "new.toml"

    result = CliRunner().invoke(root, ["init", str(config), "--policy", str(target), "--no-lan", "--no-ssh", "--no-tailscale"])

    assert result.exit_code == Exit.OK, result.output
    assert f'[tunnel.tun0]\nconfig = "{config}"' in target.read_text()
