"""Templates: what each makes is taken by the real programs; answers that don't fit write nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
import segno
from click.testing import CliRunner, Result

from failshut.cli.main import root
from failshut.config.formats import wgquick
from failshut.host.run import run
from failshut.host.sources import load_policy
from failshut.model.finding import Code
from failshut.model.units import InterfaceName
from failshut.server import config
from failshut.server.model import Server
from failshut.templates.catalogue import MANIFEST, folder, templates
from sandbox import FAILSHUT

NAMES = list(templates())
GIVEN = {
    "endpoint": "203.0.113.10",
    "entry-endpoint": "203.0.113.10",
    "exit-endpoint": "203.0.113.20",
    "lan": "192.168.9.0/24",
    "office-lan": "192.168.9.0/24",
    "branch-lan": "192.168.20.0/24",
    "branch-device": "eth1",
}


def options(name: str, **more: str) -> list[str]:
    """Return the options that a template can't do without."""
    asked = {each.name for each in templates()[name].questions}
    return [word for key, value in {**GIVEN, **more}.items() if key in asked for word in (f"--{key}", value)]


def new(name: str, directory: Path, *more: str) -> Result:
    """Make a template's files by the command; within this process, which saves starting Python."""
    return CliRunner().invoke(root, ["templates", "new", name, "--output", str(directory), *more])


@pytest.fixture(scope="module", params=NAMES)
def made(request, tmp_path_factory):
    """A template's folder, made by the command."""
    directory = tmp_path_factory.mktemp(request.param) / "made"
    done = new(request.param, directory, *options(request.param))
    assert done.exit_code == 0, done.output
    return directory


def test_every_folder_is_a_template_and_says_what_it_is_for():
    """A newcomer adds a folder, and no code."""
    folders = {each.name for each in folder().iterdir() if each.is_dir() and not each.name.startswith("_")}

    assert folders == set(NAMES)
    assert all(folder().joinpath(each, MANIFEST).is_file() for each in folders)
    assert {
        "road-warrior",
        "travel",
        "split-tunnel",
        "lan-access",
        "site-to-site",
        "double-hop",
        "dns-filter",
        "vps-server",
    } <= folders


def test_what_a_template_makes_is_taken_by_everybody_who_reads_it(made):
    """`wg-quick strip` takes every config, `failshut server` those of servers, `check` every policy; none has an error."""
    configs, policies = sorted(made.rglob("*.conf")), sorted(made.rglob("failshut.toml"))

    assert configs
    assert policies
    for path in configs:
        stripped = run(["wg-quick", "strip", str(path)])
        assert stripped.ok, stripped.complaint
        read = wgquick.read(path.read_text(), str(path))
        assert isinstance(read, wgquick.WgQuickConfig), read
        if any(word in path.parts for word in ("server", "office", "entry", "exit")):
            assert isinstance(config.read(path.read_text(), str(path), InterfaceName("wg0")), Server)
    for path in policies:
        checked = load_policy(str(path))
        assert checked.policy, checked.findings
        # Of remote access it is so, and meant.
        assert {each.code for each in checked.findings} <= ({Code.CONFIG_NOT_FULL} if "workstation" in path.parts else set())


def test_every_file_is_its_owners_alone(made):
    """And so is the folder."""
    assert made.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in made.rglob("*") if each.is_file()} == {0o600}


def test_every_key_is_made_for_one_place(made):
    """No two machines share a private key, and no private key is another's public one."""
    lines = [line.partition(" = ") for path in made.rglob("*.conf") for line in path.read_text().splitlines()]
    private = [value for key, _, value in lines if key == "PrivateKey"]

    assert len(set(private)) == len(private)
    assert not set(private) & {value for key, _, value in lines if key in ("PublicKey", "PresharedKey")}


def test_nothing_is_overwritten_and_no_key_is_printed(tmp_path):
    """A second run changes no byte; what the first says has none of the keys in it."""
    first = new("travel", tmp_path / "made", *options("travel"), "--json")
    before = {each: each.read_bytes() for each in (tmp_path / "made").rglob("*.conf")}
    second = new("travel", tmp_path / "made", *options("travel"))

    assert second.exit_code == 1
    assert "nothing is overwritten" in second.output
    assert before == {each: each.read_bytes() for each in (tmp_path / "made").rglob("*.conf")}
    keys = [line.split()[2] for text in before.values() for line in text.decode().splitlines() if "Key = " in line]
    assert keys
    assert not any(key in first.output for key in keys)
    assert json.loads(first.output)["template"] == "travel"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"endpoint": "203.0.113.10:70000"}, "--endpoint: '70000' is no port"),
        ({"endpoint": "http://vpn.example.com"}, "is no transport"),
        ({"endpoint": "vpn example.com"}, "neither an address nor a host name"),
        ({"endpoint": "203.0.113.10\nPostUp = touch /owned"}, "control character"),
        ({"peers": "anna\nPostUp = x"}, "control character"),
        ({"peers": "anna [Peer]"}, "can't be a name"),
        ({"peers": "../../etc"}, "can't be a name"),
        ({"peers": "anna,Anna"}, "stands there twice"),
        ({"peers": "server"}, "a folder of this template's own"),
        ({"network": "10.86.0.0/30", "peers": "a,b,c"}, "has no address number"),
        ({"network": "10.0.0.0/8"}, "can't be the peers' network"),
        ({"dns": "9.9.9"}, "is no address"),
    ],
)
def test_an_answer_that_does_not_fit_writes_nothing(given, said, tmp_path):
    """Every value is typed: nothing else gets into a config."""
    done = new(
        "vps-server", tmp_path / "made", *options("vps-server", **{"peers": "laptop", "network": "10.86.0.0/24", "dns": ""} | given)
    )

    assert done.exit_code == 2, done.output
    assert said in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "network", "own"),
    [
        ("network", "11.0.0.0/16", "10.0.0.0/8"),
        ("network", "172.32.0.0/16", "172.16.0.0/12"),
        ("network6", "2a00:1::/64", "fd00::/8"),
    ],
)
def test_a_network_of_peers_that_is_somebody_else_s_is_warned_of(option, network, own, tmp_path):
    """It is made all the same: the network may be one's own."""
    done = new("travel", tmp_path / "made", *options("travel", **{option: network}))
    told = json.loads(new("travel", tmp_path / "told", *options("travel", **{option: network}), "--json").output)["warnings"]

    assert done.exit_code == 0, done.output
    (warned,) = (line for line in done.stderr.splitlines() if "warning" in line)
    assert warned.startswith(f"failshut: warning: --{option}: {network} is public address space")
    assert own in warned
    assert told == [warned.removeprefix("failshut: warning: ")]


@pytest.mark.parametrize("network", ["10.86.0.0/24", "100.64.8.0/24", "172.31.0.0/16"])
def test_a_network_of_peers_that_is_nobody_s_is_not_warned_of(network, tmp_path):
    """Private, or shared address space; and the IPv6 network that is made up."""
    done = new("travel", tmp_path / "made", *options("travel", network=network))

    assert (done.exit_code, done.stderr) == (0, "")


def test_what_is_missing_is_named_where_nobody_can_be_asked(tmp_path):
    """With an example of it."""
    done = new("travel", tmp_path / "made")

    assert done.exit_code == 2
    assert "--endpoint vpn.example.com:51820" in done.output


def test_on_a_terminal_what_was_not_said_is_asked(tmp_path):
    """Enter takes the default."""
    ours, theirs = pty.openpty()
    argv = [*FAILSHUT, "templates", "new", "travel", "--output", str(tmp_path / "made")]
    process = subprocess.Popen(argv, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.write(ours, b"203.0.113.10\nanna\n\n\n\n")
    process.communicate(timeout=60)

    assert process.returncode == 0
    assert "Endpoint = 203.0.113.10:51820" in (tmp_path / "made/anna/etc/wireguard/wg0.conf").read_text()


def test_a_full_disk_leaves_nothing(sandbox):
    """Not half a folder, not a temporary one."""
    sandbox.run("sh", "-c", "mkdir /run/small && mount -t tmpfs -o size=4k,nr_inodes=9 none /run/small")

    done = sandbox.failshut("templates", "new", "travel", "-o", "/run/small/made", *options("travel"))

    assert done.returncode == 1
    assert "can't be written: no space left on device" in done.stderr
    assert sandbox.run("ls", "-A", "/run/small").stdout == ""


def test_the_code_is_what_the_telephone_reads(tmp_path):
    """Drawn only when it is asked for: from its dark and light halves comes the very code of the config."""
    done = new("travel", tmp_path / "made", *options("travel"), "--qr")
    text = (tmp_path / "made/laptop/etc/wireguard/wg0.conf").read_text()
    bare = "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))

    drawn = [line for line in done.output.splitlines() if line and set(line) <= set("█▀▄ ")]
    light = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    rows = [[light[each][half] for each in line] for line in drawn for half in (0, 1)]
    wanted = [list(row) for row in segno.make(bare, error="l", micro=False).matrix_iter(border=1)]
    assert rows[: len(wanted)] == wanted
    assert len(drawn[0]) <= 80


def test_what_is_shown_has_no_keys_and_all_files():
    """`show` makes the files with the examples as answers."""
    for name in NAMES:
        done = CliRunner().invoke(root, ["templates", "show", name])

        assert done.exit_code == 0
        assert "PrivateKey = (private key: " in done.output
        assert "failshut.toml" in done.output


def test_a_telephone_can_not_have_a_double_hop():
    """Its app runs one tunnel: no code is offered for either."""
    assert not any(each.qr for each in templates()["double-hop"].files)
