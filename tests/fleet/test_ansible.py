"""Ansible's role and modules against hosts that really boot, by real SSH: what a fleet's operator relies on."""

from __future__ import annotations

import difflib
import hashlib
import logging
import shutil
import time
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from amount import thorough
from boot import roots
from boot.living import status
from boot.packages import package
from failshut.drill.network.wait import until
from failshut.host.run import run
from fleet.archive import Archive
from fleet.hosts import ANSIBLE, CONTROLLER, Fleet, Play

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

_log = logging.getLogger(__name__)
SIZE = 5
# Another policy: its services have one caller more.
WIDER = str(ip_network(f"{CONTROLLER}/31", strict=False))
CUTS_SSH = """\
[tunnel.wg0]
config = "/etc/wireguard/wg0.conf"
"""
POLICY = f"""\
{CUTS_SSH}
[[allow.inbound]]
name = "ssh"
protocol = "tcp"
port = 22
from = ["{CONTROLLER}/32"]

[[allow.outbound]]
name = "packages"
protocol = "tcp"
to = ["{CONTROLLER}"]
port = 443
"""
ROLE = """
- hosts: failshut
  {more}
  roles:
    - failshut.failshut.failshut
"""


@pytest.fixture
def fleet(tree_of, tmp_path):
    if not (ANSIBLE / "ansible-playbook").exists():
        pytest.skip("needs ansible-core: run `make test`")
    if shutil.which("ssh") is None:
        pytest.skip("needs ssh: run `make test`")
    with step(f"{SIZE} hosts boot"), Fleet(tree_of(roots.WORKSHOP), SIZE, tmp_path) as it:
        yield it


@contextmanager
def step(what: str):
    """Say how long a step took, to whoever asks by --log-cli-level=INFO."""
    began = time.monotonic()
    yield
    _log.info("%s: %.1f s", what, time.monotonic() - began)


def apply(
    fleet: Fleet, *words: str, more: str = "gather_facts: false", on: dict[str, dict] | None = None, **variables: object
) -> Play:
    """Run the role on the fleet; or on some of it, each with variables of its own beside those of all."""
    given = {"failshut_policy": POLICY, "failshut_confirm_within": 120, **variables}
    own = on or {each.name: {} for each in fleet.hosts}
    for name, its in own.items():
        fleet.describe(name, {**given, **its})
    with step(f"the role, {' '.join(words)} {list(variables)} {list(own)}"):
        return fleet.play(ROLE.format(more=more), f"--limit={','.join(own)}", *words)


def on_two(fleet: Fleet, at_first: dict[str, object], at_last: dict[str, object], *words: str) -> Play:
    """Run the role on the first host and on the last, each with variables of its own."""
    return apply(fleet, *words, on={fleet.hosts[0].name: at_first, fleet.hosts[-1].name: at_last})


def difference(before: str, after: str) -> str:
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=1))


def states(fleet: Fleet) -> list[str]:
    return [status(each)["state"] for each in fleet.hosts]


@thorough
def test_a_fleet_is_armed_and_no_host_is_lost(fleet):
    """In order, on the same hosts: each step's end is the next one's beginning."""
    check_mode_changes_nothing(fleet)
    the_first_run_arms_every_host(fleet)
    a_second_run_changes_nothing(fleet)
    a_policy_that_cuts_ssh_is_undone_by_every_host_itself(fleet)
    bad_input_is_said_and_changes_nothing(fleet)
    a_host_that_is_off_holds_nobody_up(fleet)
    a_host_that_asks_for_signatures_takes_signed_policies_alone(fleet)
    the_role_brings_the_package_and_takes_it_away(fleet)


def check_mode_changes_nothing(fleet: Fleet) -> None:
    before = [each.fingerprint for each in fleet.hosts]

    checked = apply(fleet, "--check", "--diff")

    assert checked.of("failed") == [0] * SIZE, checked.said
    assert "+table inet failshut" in checked.said
    assert 'meta mark set (own) accept comment "stamp"' in checked.said, "the host's own mark is a secret"
    assert "PrivateKey" not in checked.said
    assert [each.fingerprint for each in fleet.hosts] == before


def the_first_run_arms_every_host(fleet: Fleet) -> None:
    assert all(each.reaches_the_site() for each in fleet.hosts), "the control: before, every host gets out"

    first = apply(fleet, more="gather_facts: false\n  serial: 2")

    assert first.of("failed") == [0] * SIZE, first.said
    assert min(first.of("changed")) > 0
    assert states(fleet) == ["armed"] * SIZE
    assert [status(each)["reverts_in"] for each in fleet.hosts] == [None] * SIZE
    assert [status(each)["boot"]["loaded_by"] for each in fleet.hosts] == ["systemd"] * SIZE
    assert not any(each.reaches_the_site() for each in fleet.hosts)


def a_second_run_changes_nothing(fleet: Fleet) -> None:
    before = [each.fingerprint for each in fleet.hosts]

    second = apply(fleet)

    assert (second.of("failed"), second.of("changed")) == ([0] * SIZE, [0] * SIZE), second.said
    assert [each.fingerprint for each in fleet.hosts] == before
    asked = fleet.play("""
- hosts: failshut
  tasks:
    - failshut.failshut.failshut_info:
      register: lock
    - ansible.builtin.assert:
        that:
          - lock.state == 'armed' and lock.installed and lock.status.tunnels.wg0 is none
          - ansible_local.failshut.state == 'armed' and 'refused' not in ansible_local.failshut
""")
    assert (asked.of("failed"), asked.of("changed")) == ([0] * SIZE, [0] * SIZE), asked.said


def a_policy_that_cuts_ssh_is_undone_by_every_host_itself(fleet: Fleet) -> None:
    before = [each.fingerprint for each in fleet.hosts]

    cut = apply(fleet, failshut_policy=CUTS_SSH, failshut_confirm_within=15)

    assert cut.of("failed") == [1] * SIZE, cut.said
    assert cut.said.count("the host has undone it by itself") >= SIZE, cut.said
    # The guard takes the old lock over a moment later.
    for host, text in zip(fleet.hosts, before, strict=True):
        assert until(lambda its=host, was=text: its.fingerprint == was, within=30, step=0.5), difference(text, host.fingerprint)
    assert states(fleet) == ["armed"] * SIZE
    assert all("nobody confirmed" in each.journal() for each in fleet.hosts)


def bad_input_is_said_and_changes_nothing(fleet: Fleet) -> None:
    before = [each.fingerprint for each in fleet.hosts]
    first, *_ = fleet.hosts
    changed = POLICY.replace(f"{CONTROLLER}/32", WIDER)

    typed = apply(fleet, failshut_confirm_within="soon")
    mistaken = apply(fleet, failshut_policy=POLICY.replace("port = 22", "port = 70000"))
    assert first.run("mount", "--bind", "-o", "ro", "/etc", "/etc").ok
    assert first.run("mount", "-o", "remount,bind,ro", "/etc").ok
    unwritable = apply(fleet, on={"h1": {}}, failshut_policy=changed)
    assert first.run("umount", "/etc").ok
    nft = first.run("sh", "-c", "readlink -f $(command -v nft)").out.strip()
    assert first.run("mv", nft, f"{nft}.away").ok
    without = apply(fleet, on={"h1": {}}, failshut_policy=changed)
    assert first.run("mv", f"{nft}.away", nft).ok

    assert typed.of("failed") == [1] * SIZE
    assert "argument 'failshut_confirm_within' is of type" in typed.said, typed.said
    assert mistaken.of("failed") == [1] * SIZE
    assert "/etc/failshut/failshut.toml:7:8: error" in mistaken.said, mistaken.said
    assert (unwritable.of("failed"), without.of("failed")) == ([1], [1])
    assert "/etc/failshut can't be written: Read-only file system; nothing was changed" in unwritable.said, unwritable.said
    assert "nft is not installed" in without.said, without.said
    assert [each.fingerprint for each in fleet.hosts] == before


def a_host_that_is_off_holds_nobody_up(fleet: Fleet) -> None:
    """The last one: the others take the new policy."""
    *others, last = fleet.hosts
    last.power_off()

    partly = apply(fleet, failshut_policy=POLICY.replace(f"{CONTROLLER}/32", WIDER))

    assert partly.of("unreachable") == [*[0] * len(others), 1], partly.said
    assert partly.of("failed") == [0] * SIZE, partly.said
    assert all(WIDER in each.read("/etc/failshut/failshut.toml") for each in others)
    assert [status(each)["state"] for each in others] == ["armed"] * len(others)
    last.boot()
    assert status(last)["state"] == "armed"


def a_host_that_asks_for_signatures_takes_signed_policies_alone(fleet: Fleet) -> None:
    first = fleet.hosts[0]
    key, policy, signers = (fleet.directory / each for each in ("signer", "policy.toml", "allowed_signers"))
    fleet.room.do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    signers.write_text(f"operator {key.with_suffix('.pub').read_text()}")
    policy.write_text(f"serial = 1\n{POLICY}")
    signed = run((str(ANSIBLE / "failshut"), "sign", str(key), "--policy", str(policy)))
    assert signed.ok, signed.complaint
    given = {"failshut_policy": "", "failshut_policy_signature": f"{policy}.sig", "failshut_allowed_signers": str(signers)}

    taken = apply(fleet, on={"h1": {}}, failshut_policy_file=str(policy), **given)
    before = first.fingerprint
    policy.write_text(f"serial = 2\n{POLICY}")
    refused = apply(fleet, on={"h1": {}}, failshut_policy_file=str(policy), **given)

    assert taken.of("failed") == [0], taken.said
    assert refused.of("failed") == [1], refused.said
    assert "the signature is not of this policy" in refused.said, refused.said
    assert first.fingerprint == before
    assert status(first)["state"] == "armed"


def is_done_once(fleet: Fleet, at_first: dict[str, object], at_last: dict[str, object]) -> None:
    """Neither host fails, and a second run changes nothing."""
    installed = on_two(fleet, at_first, at_last)
    assert installed.of("failed") == [0, 0], installed.said
    again = on_two(fleet, at_first, at_last)
    assert (again.of("failed"), again.of("changed")) == ([0, 0], [0, 0]), again.said


def the_role_brings_the_package_and_takes_it_away(fleet: Fleet) -> None:
    """From everywhere it may come from, on two hosts at once."""
    first, last = fleet.hosts[0], fleet.hosts[-1]
    with step("the package is built"):
        built = package()
    archive = Archive(fleet, CONTROLLER)
    from_file = {"failshut_install_from": "deb", "failshut_package": str(built)}
    from_url = {
        "failshut_install_from": "deb",
        "failshut_package": archive.serve(built, "failshut.deb"),
        "failshut_package_checksum": f"sha256:{hashlib.sha256(built.read_bytes()).hexdigest()}",
    }
    absent = {"failshut_install_from": "deb", "failshut_state": "absent"}
    wrong = from_url | {"failshut_package_checksum": f"sha256:{'0' * 64}"}

    # The first takes unsigned ones again.
    first.remove("/etc/failshut/allowed_signers")
    for each in (first, last):
        each.remove("/usr/local/bin/failshut")
        archive.trusted_by(each)

    checked = on_two(fleet, from_file, from_url, "--check")
    assert checked.of("failed") == [0, 0], checked.said
    mistaken = on_two(fleet, {**from_url, "failshut_package_checksum": ""}, wrong)
    assert mistaken.of("failed") == [1, 1], mistaken.said
    assert "a package by URL comes by https, and needs failshut_package_checksum" in mistaken.said, mistaken.said
    assert "The checksum for" in mistaken.said, mistaken.said
    assert not any(each.run("which", "failshut").ok for each in (first, last))
    is_done_once(fleet, from_file, from_url)
    assert all(status(each)["state"] == "armed" for each in (first, last))

    gone = on_two(fleet, absent, absent)

    assert (gone.of("failed"), gone.of("unreachable")) == ([0, 0], [0, 0]), gone.said
    for each in (first, last):
        assert each.run("sh", "-c", "find /etc/failshut -mindepth 1 -ls 2>/dev/null").out == "", gone.said
        assert each.run("nft", "list", "tables").out == ""
        assert each.reaches_the_site()
    the_package_comes_from_a_repository(fleet, archive, built)


def the_package_comes_from_a_repository(fleet: Fleet, archive: Archive, built: Path) -> None:
    """On one host the role adds it, on the other it is there already; Debian's own is the lab's too."""
    first, last = fleet.hosts[0], fleet.hosts[-1]
    key, stranger = archive.key("ours"), archive.key("stranger")
    debian = archive.publish("debian", archive.take_from(first, "python3-debian"), key="ours")
    ours = archive.publish("ours", built, key="ours")
    line = "deb [signed-by=/etc/apt/keyrings/lab.asc] {} ./\n"
    for each, known in ((first, debian), (last, ours)):
        each.write("/etc/apt/sources.list", line.format(known))
        each.write("/etc/apt/keyrings/lab.asc", (archive.directory / "ours.asc").read_text())
    repository = {"name": "failshut", "uris": [ours], "suites": ["./"], "signed_by": key}
    adds = {"failshut_install_from": "apt", "failshut_repository": repository}
    mistrusts = adds | {"failshut_repository": {**repository, "signed_by": stranger}}
    version = run(("dpkg-deb", "--field", str(built), "Version")).out.strip()
    finds = {"failshut_install_from": "apt", "failshut_package_name": f"failshut={version}"}

    checked = on_two(fleet, adds, finds, "--check")
    assert checked.of("failed") == [0, 0], checked.said
    mistaken = on_two(fleet, mistrusts, {**finds, "failshut_package_name": "failshut=99"})
    assert mistaken.of("failed") == [1, 1], mistaken.said
    assert "the public key is not available: NO_PUBKEY" in mistaken.said, mistaken.said
    assert "no available installation candidate for failshut=99" in mistaken.said, mistaken.said
    assert not any(each.run("which", "failshut").ok for each in (first, last))
    is_done_once(fleet, adds, finds)
    assert states(fleet) == ["armed"] * SIZE
