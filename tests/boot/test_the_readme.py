"""What the README says, done in its order: by a newcomer on a clean Debian, with the package that `make deb` builds."""

from __future__ import annotations

import re
import subprocess
import warnings

import pytest

from amount import THOROUGHLY, thorough
from boot.living import UNARMED, assert_armed, judged, use
from boot.machine import Address, Machine
from boot.packages import bring, package
from boot.room import Room
from boot.roots import REPOSITORY, TRIXIE
from boot.router import Router
from boot.wire import BETWEEN
from guide.blocks import Block, blocks

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

README = REPOSITORY / "README.md"
BUILD, ARM, DISARM, DRILL = "make deb && ", "sudo failshut arm", "sudo failshut disarm", "sudo failshut drill"
# What asks, and waits for its answer.
ASKING = (DISARM, "sudo failshut verify")
# The whole drill takes two minutes.
SHORTER = f"{DRILL} guide-1 rule-lost works-lan"
DISARMED = "disarmed"
# What its sentences name, between the blocks: a command, or `tools/…`.
NAMED = re.compile(r"`((?:failshut|make|man) [^`]+|tools/[^`]+)`")
# Rules for iptables-restore that people use, which the README compares with.
OTHERS = REPOSITORY / "docs/comparison"
BESIDE = "failshut drill --beside rules.v4 --beside rules.v6"
# What is done on a machine whose lock is off, by a user where that is enough, with what it exits with.
ON_THE_MACHINE = {"failshut render nft": ("nobody", 0), "failshut audit rules.v4": ("nobody", 12), BESIDE: ("root", 0)}
# Where else it is done.
ELSEWHERE = {
    "failshut confirm": "tests/boot/test_confirm.py::test_armed_over_ssh_it_must_be_confirmed",
    "tools/comparison.py": f"`{BESIDE}`, and the table into this page",
}


def lines(block: Block) -> list[str]:
    """Return a block's commands, without what is said of them."""
    return [command for line in block.text.splitlines() if (command := line.split("  #")[0].split(" #")[0].strip())]


def test_every_block_of_the_readme_is_done_by_a_test():
    assert [(each.language, each.where) for each in blocks(README)] == [
        ("sh", "checkout"),
        ("sh", "machine"),
        ("toml", "machine"),
    ]


def test_every_command_in_the_readmes_sentences_is_done_by_a_test():
    named = set(NAMED.findall(README.read_text()))
    assert {each for each in named if not each.startswith(("make ", "man "))} == {*ON_THE_MACHINE, *ELSEWHERE}
    path, _, name = ELSEWHERE["failshut confirm"].partition("::")
    assert f"def {name}(" in (REPOSITORY / path).read_text()


def test_what_the_readme_has_of_make_is_there():
    """What of it takes an hour is not run: `make bench` and `make vm-test` are what the numbers in the docs come from."""
    named = {each for each in NAMED.findall(README.read_text()) if each.startswith("make ")}
    # Up to date: what runs this is.
    make = ("make", "--assume-old=.venv/.tests-ready", "--no-print-directory")
    listed = subprocess.run((*make, "help"), cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    assert named - {f"make {line.split()[0]}" for line in listed.splitlines()} == set()
    built = subprocess.run((*make, "docs"), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (REPOSITORY / built.stdout.strip()).exists()


def test_the_package_has_the_manual_that_the_readme_names():
    """Nothing of it is looked at by man: the trees have none."""
    listed = subprocess.run(("dpkg-deb", "--contents", str(package())), capture_output=True, text=True, check=True).stdout
    named = [each.removeprefix("man ") for each in NAMED.findall(README.read_text()) if each.startswith("man ")]

    assert named == ["failshut"]
    assert f"/usr/share/man/man8/{named[0]}.8.gz" in listed


@thorough
def test_what_the_readme_does_in_the_checkout():
    (block,) = (each for each in blocks(README) if each.where == "checkout")
    # The second is what runs this.
    assert lines(block) == ["make drill", "make test"]
    drilled = subprocess.run(("make", "drill"), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert drilled.returncode == 0, drilled.stdout + drilled.stderr
    assert "were sent against the lock: 0 leaked" in drilled.stdout


def test_what_the_readme_does_on_a_machine(tree_of):
    """Nothing leaks from `arm` to `disarm`; what leaks before and after, with the tunnel down, is the control."""
    install, policy = (each for each in blocks(README) if each.where == "machine")
    with Room() as room, Router(room) as router, Machine(room, router, tree_of(TRIXIE), Address.DHCP) as machine:
        machine.remove("/usr/local/bin/failshut")
        # Else sudo looks its own name up, and waits.
        machine.write("/etc/hosts", "127.0.0.1 localhost machine\n")
        machine.remove("/etc/failshut/failshut.toml")
        phase = machine.router.wire.phase
        with phase(UNARMED):
            machine.boot()
            use(machine)
            before, after = halves(lines(install), DISARM)
            until_armed, armed = halves(before, ARM)
            # The drill has the machine's processor to itself, as it has at a user's.
            assert machine.run("systemctl", "kill", "--signal=STOP", "noise").ok
            for each in until_armed:
                do(machine, each)
            assert machine.run("systemctl", "kill", "--signal=CONT", "noise").ok
            machine.hear_noise()
            do(machine, ARM)
        with phase("armed"):
            assert_armed(machine)
            for each in armed[1:]:
                do(machine, each)
        with phase("reboot"):
            assert machine.reboot() == "running", machine.journal()
            use(machine)
            assert machine.run("systemctl", "stop", "wg-quick@wg0").ok
            machine.hear_noise()
        with phase(DISARMED):
            for each in after:
                do(machine, each)
            machine.hear_noise()
        the_policy_is_sound(machine, policy)
        what_its_sentences_name_is_done(machine)
        report = judged(machine)
        assert set(report.by_phase) == {UNARMED, DISARMED, BETWEEN} & set(report.by_phase), report
        assert {"udp", "icmp", "raw", "packet"} <= set(report.by_phase[DISARMED]), report


def halves(commands: list[str], at: str) -> tuple[list[str], list[str]]:
    """Return what stands before a command, and the rest that begins with it."""
    return commands[: commands.index(at)], commands[commands.index(at) :]


def do(machine: Machine, command: str) -> None:
    """Do a line of the README as a user at a terminal, who says yes when asked."""
    if command.startswith(BUILD):
        # The checkout is the tester's, and so is what it was built with; the name is the one that the README says.
        command = command.removeprefix(BUILD)
        bring(machine, package())
        assert machine.run("sh", "-c", "cd && mkdir -p dist && mv /opt/failshut_*.deb dist/").ok
    if command == DRILL and not THOROUGHLY:
        warnings.warn(f"`{DRILL}` was run as `{SHORTER}`: FAILSHUT_THOROUGH=1 runs the whole of it", stacklevel=1)
        command = SHORTER
    words = ("bash", "-ec", f"cd; {command}")
    if command in ASKING:
        words = ("script", "--quiet", "--return", "--command", command, "/dev/null")
    done = machine.run(*words, stdin="y\n" if command in ASKING else None, timeout=300)
    assert done.ok, f"{command}\n{done.out}\n{done.err}\n{machine.journal()[-3000:]}"


def the_policy_is_sound(machine: Machine, block: Block) -> None:
    """The README's example passes `check`, and its lock is printed."""
    machine.write("/etc/failshut/example.toml", block.text)
    for words in (("check",), ("render", "nft")):
        done = machine.run("failshut", *words, "--policy", "/etc/failshut/example.toml")
        assert done.ok, done.complaint


def what_its_sentences_name_is_done(machine: Machine) -> None:
    """Beside the rules that the README compares with."""
    assert machine.run("systemctl", "kill", "--signal=STOP", "noise").ok
    # Root's alone, as wg-quick wants it.
    assert machine.run("chmod", "--recursive", "a+rX", "/etc/wireguard", "/etc/failshut").ok
    for family in ("v4", "v6"):
        machine.write(f"/opt/rules.{family}", (OTHERS / f"tutorial.{family}").read_text())
    for said, (user, code) in ON_THE_MACHINE.items():
        command = f"{said} {SHORTER.removeprefix(DRILL)}" if said == BESIDE else said
        done = machine.run("setpriv", f"--reuid={user}", "--clear-groups", "sh", "-c", f"cd /opt && {command}", timeout=300)
        assert done.code == code, f"{command}\n{done.out}\n{done.err}"
