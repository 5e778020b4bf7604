"""Programs outside the tunnel: what runs there is on the underlay, what does not never is. Judged at the cable's other end."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from failshut.drill.network.wait import until
from grouped import ASK, INTERNET4, INTERNET6, ROUTER4, TUNNEL4, TUNNEL6, UNDERLAY4, UNDERLAY6
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

OUTSIDE = "[outside]"
SLICE = "failshut.slice/failshut-outside.slice"
PYTHON = "/usr/bin/python3"
IN_THE_CLEAR = {"tcp4": UNDERLAY4, "udp4": UNDERLAY4, "tcp6": UNDERLAY6, "udp6": UNDERLAY6}
BY_THE_TUNNEL = {"tcp4": TUNNEL4, "udp4": TUNNEL4, "tcp6": TUNNEL6, "udp6": TUNNEL6}
NOWHERE = dict.fromkeys(IN_THE_CLEAR, "")
# A datagram with a word in it, as a user of the machine's own; "-" for no mark.
SAY = f"""
import socket, sys
word, mark = sys.argv[1], sys.argv[2]
for family, host in ((socket.AF_INET, "{INTERNET4}"), (socket.AF_INET6, "{INTERNET6}")):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        sock = socket.socket(family, kind, 0 if kind == socket.SOCK_DGRAM else 253)
        if mark != "-":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(mark, 0).to_bytes(4, sys.byteorder))
        try:
            sock.sendto(word.encode(), (host, 9001 if kind == socket.SOCK_DGRAM else 0))
        except OSError:
            pass
print("tried")
"""


def ask_outside(machine, *options: str) -> dict[str, str]:
    done = machine.outside_of_tunnel(PYTHON, "-c", ASK, options=options)
    return json.loads(done.stdout or "{}") or {"failed": done.stderr}


def words(frames, device: str) -> set[str]:
    return {each.payload.strip() for each in frames if each.device == device and each.payload.strip()}


def the_mark(machine) -> str:
    """Return the mark that the lock writes on what is outside."""
    chain = machine.must("nft", "list", "chain", "inet", "failshut", "outside-mark")
    return chain.partition("meta mark set ")[2].split()[0]


def test_a_program_outside_is_on_the_underlay_and_one_inside_in_the_tunnel(grouped):
    """By both families and transports answers come to the underlay's address, or to the tunnel's; with a strict rp_filter."""
    grouped.arm(OUTSIDE)
    for device in ("all", "eth0", "wg0"):
        grouped.must("sysctl", "-qw", f"net.ipv4.conf.{device}.rp_filter=1")

    outside, inside = ask_outside(grouped), grouped.ask()

    assert outside == IN_THE_CLEAR
    assert inside == BY_THE_TUNNEL


def test_with_the_tunnel_down_a_program_outside_goes_on_and_one_inside_is_dark(grouped):
    """The control: with the lock off, the same program inside is seen in the clear."""
    grouped.arm(OUTSIDE)
    grouped.must("wg-quick", "down", "wg0")
    grouped.watch()

    outside, inside = ask_outside(grouped), grouped.ask(patience=0.5)
    frames = grouped.seen()

    assert outside == IN_THE_CLEAR
    assert inside == NOWHERE
    # The programs asked the same: all that came was the one outside, a connection and a datagram by each family.
    assert {each.payload for each in frames if each.protocol == "udp"} == {"hello"}
    assert len([each for each in frames if each.protocol == "udp"]) == 2
    grouped.must(*FAILSHUT, "disarm", "--yes")
    assert grouped.ask(patience=5) == IN_THE_CLEAR


def test_its_lookups_go_through_the_tunnel(grouped):
    """Without `dns` a program outside asks as ever, and no question is seen on the cable."""
    grouped.arm(OUTSIDE)
    grouped.write("/run/lookup.py", LOOKUP)
    grouped.watch()

    grouped.outside_of_tunnel(PYTHON, "/run/lookup.py", INTERNET4, "10.99.0.1")
    frames = [each for each in grouped.seen() if each.port == 53]

    assert {each.device for each in frames} == {"served"}
    assert {each.target for each in frames} == {INTERNET4, "10.99.0.1"}


# A question to each resolver, without waiting for an answer; by UDP, then by TCP.
LOOKUP = """
import socket, sys
for resolver in sys.argv[1:]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\7example\\3com\\0\\0\\1\\0\\1", (resolver, 53))
        except OSError as error:
            print(resolver, error)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.5)
        try:
            sock.connect((resolver, 53))
        except OSError:
            pass
"""


def test_its_lookups_go_to_the_resolvers_that_the_policy_names(grouped):
    """The program has a resolv.conf of its own; that resolver is asked on the underlay, every other one through the tunnel."""
    grouped.arm(OUTSIDE, f'dns = ["{ROUTER4}"]')
    before = grouped.read("/etc/resolv.conf")
    grouped.write("/run/lookup.py", LOOKUP)

    shown = grouped.outside_of_tunnel("cat", "/etc/resolv.conf").stdout
    grouped.watch()
    grouped.outside_of_tunnel(PYTHON, "/run/lookup.py", ROUTER4, INTERNET4)
    grouped.run(PYTHON, "/run/lookup.py", ROUTER4)
    frames = [each for each in grouped.seen() if each.port == 53]

    assert [each for each in shown.splitlines() if not each.startswith("#")] == [f"nameserver {ROUTER4}"]
    assert grouped.read("/etc/resolv.conf") == before
    assert {(each.protocol, each.target) for each in frames if each.device == "cable"} == {("udp", ROUTER4), ("tcp", ROUTER4)}
    assert {each.source for each in frames if each.device == "cable"} == {UNDERLAY4}
    assert len([each for each in frames if each.device == "cable" and each.protocol == "udp"]) == 1
    assert {each.target for each in frames if each.device == "served"} >= {INTERNET4}


def test_children_and_daemons_stay_where_they_were_started(grouped):
    """A child, a grandchild and a daemon whose parents are gone: outside all, and inside none of them; the parents ended first."""
    family = """
import os, socket, sys, time
def say(word):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto((sys.argv[1] + word).encode(), ("198.51.100.7", 9001))
say("parent")
if os.fork() == 0:
    say("child")
    os.setsid()
    if os.fork() == 0:
        while os.getppid() == first: pass
        say("daemon")
        open(sys.argv[2], "w").close()
    os._exit(0)
""".replace("if os.fork() == 0:\n    say", "first = None\nif os.fork() == 0:\n    first = os.getpid()\n    say")
    grouped.arm(OUTSIDE)
    grouped.write("/run/family.py", family)
    grouped.watch()

    grouped.outside_of_tunnel(PYTHON, "/run/family.py", "outside-", "/run/outside-done")
    grouped.run(PYTHON, "/run/family.py", "inside-", "/run/inside-done")
    both = ("sh", "-c", "test -e /run/outside-done && test -e /run/inside-done")
    assert until(lambda: grouped.run(*both).returncode == 0, within=20, step=0.1)
    frames = grouped.seen()

    members = ("parent", "child", "daemon")
    assert words(frames, "cable") == {f"outside-{each}" for each in members}
    assert words(frames, "served") == {f"inside-{each}" for each in members}


@pytest.mark.scenario(32, 33)
def test_a_forged_mark_lets_nothing_out(grouped):
    """From inside, a user with CAP_NET_RAW alone, and root, bring the outside mark along: none but the control is on the cable."""
    grouped.arm(OUTSIDE)
    mark = the_mark(grouped)
    raw = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    raw += ("--inh-caps=-all,+net_raw", "--ambient-caps=+net_raw", "--bounding-set=-all,+net_raw")
    grouped.watch()

    forged = grouped.run(*raw, PYTHON, "-c", SAY, "forged", mark)
    by_root = grouped.run(PYTHON, "-c", SAY, "forged-by-root", mark)
    grouped.outside_of_tunnel(PYTHON, "-c", SAY, "control", "-")
    frames = grouped.seen()

    assert (forged.stdout, by_root.stdout) == ("tried\n", "tried\n"), forged.stderr + by_root.stderr
    in_the_clear = [each for each in frames if each.device == "cable"]
    assert {each.payload for each in in_the_clear} == {"control"}
    assert len(in_the_clear) == 4


def test_a_socket_belongs_to_the_group_it_was_made_in(grouped):
    """Moved outside, a program's older sockets stay inside, and its new ones are outside; moved back, those stay outside."""
    grouped.arm(OUTSIDE)
    script = f"""
import os, socket
def move(path):
    with open("/sys/fs/cgroup/" + path + "/cgroup.procs", "w") as file:
        file.write("0")
def made():
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def say(sock, word):
    sock.sendto(word.encode(), ("{INTERNET4}", 9001))
older = made()
move("{SLICE}")
newer = made()
say(older, "older"); say(newer, "newer")
move("")
say(newer, "newer-moved-back"); say(made(), "newest")
"""
    assert ask_outside(grouped) == IN_THE_CLEAR
    grouped.watch()

    done = grouped.run(PYTHON, "-c", script)
    frames = grouped.seen()

    assert done.returncode == 0, done.stderr
    assert words(frames, "cable") == {"newer", "newer-moved-back"}
    assert words(frames, "served") == {"older", "newest"}


def test_a_group_that_was_removed_and_made_again_is_let_out_again(grouped):
    """The kernel knows groups by number: the new one of the same name is another, dark until the next `exec` has it added."""
    grouped.arm(OUTSIDE)
    assert ask_outside(grouped) == IN_THE_CLEAR
    directory = grouped.group(SLICE)
    assert until(lambda: _removed(directory), within=10, step=0.05)
    directory.mkdir()
    join = ("sh", "-c", f'echo 0 >/sys/fs/cgroup/{SLICE}/cgroup.procs && exec "$@"', "sh")

    dark = grouped.ask(*join)
    outside = ask_outside(grouped)

    assert dark == BY_THE_TUNNEL
    assert outside == IN_THE_CLEAR
    assert grouped.ask(*join) == IN_THE_CLEAR


def test_programs_stay_outside_when_the_lock_is_loaded_anew(grouped):
    """Armed once more, and flushed away and put back by the loader: a program that runs outside, and was never told, goes on."""
    grouped.arm(OUTSIDE)
    script = f"""
import socket, sys
for line in sys.stdin:
    with socket.create_connection(("{INTERNET4}", 7001), 10) as sock:
        sock.send(b"hello")
        print(sock.recv(99).decode(), flush=True)
"""
    lives = grouped.start(*FAILSHUT, "exec", "--outside", "--", PYTHON, "-c", script)

    def seen_as() -> str:
        lives.stdin.write("ask\n")
        lives.stdin.flush()
        return lives.stdout.readline().strip()

    first = seen_as()
    grouped.must(*FAILSHUT, "arm")
    second = seen_as()
    grouped.must("nft", "delete", "table", "inet", "failshut")
    grouped.must("/etc/failshut/load")
    third = seen_as()
    lives.communicate()

    assert (first, second, third) == (UNDERLAY4, UNDERLAY4, UNDERLAY4)


def test_another_slice_takes_the_place_of_the_one_before(grouped):
    """Armed with another slice, the kernel lets out what runs there, and no more what runs in the old one."""
    grouped.arm(OUTSIDE)
    assert ask_outside(grouped) == IN_THE_CLEAR
    old = ("sh", "-c", f'echo 0 >/sys/fs/cgroup/{SLICE}/cgroup.procs && exec "$@"', "sh")
    policy = grouped.read("/etc/failshut/failshut.toml")
    grouped.write("/etc/failshut/failshut.toml", f'{policy}slice = "games-online.slice"\n')

    early = grouped.outside_of_tunnel("true")
    grouped.must(*FAILSHUT, "arm")

    assert "`failshut arm` loads the policy as it is" in early.stderr
    assert grouped.ask(*old) == BY_THE_TUNNEL
    assert ask_outside(grouped) == IN_THE_CLEAR


def _removed(directory: Path) -> bool:
    try:
        for each in directory.iterdir():
            if each.is_dir():
                each.rmdir()
        directory.rmdir()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("how", "code"), [("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", -signal.SIGTERM)])
def test_the_exit_status_is_the_programs_own(grouped, how, code):
    """failshut becomes the program: status and signal arrive as they are."""
    grouped.arm(OUTSIDE)

    process = grouped.start(*FAILSHUT, "exec", "--outside", "--", "sh", "-c", how)

    assert process.wait(30) == code
    process.communicate()


def test_a_signal_reaches_the_program_itself(grouped):
    """The process that was started is the program: nobody stands between."""
    grouped.arm(OUTSIDE)
    script = 'trap "echo told; exit 7" TERM; echo ready; while :; do sleep 0.01; done'
    process = grouped.start(*FAILSHUT, "exec", "--outside", "--", "sh", "-c", script)
    assert process.stdout.readline() == "ready\n"

    process.terminate()
    out, _ = process.communicate(timeout=30)

    assert (out, process.returncode) == ("told\n", 7)


@pytest.mark.parametrize("way", ["sudo", "--user"])
def test_it_runs_as_the_calling_user(grouped, way):
    """With the user's number, groups and home, without root's capabilities; nothing of sudo's is passed on."""
    grouped.arm(OUTSIDE)
    grouped.must(
        "sh", "-c", "echo 'alice:x:4321:4321::/home/alice:/bin/sh' >>/etc/passwd; echo 'printers:x:4400:alice' >>/etc/group"
    )
    options = ("--user", "alice") if way == "--user" else ()
    env = {"SUDO_UID": "4321", "SUDO_USER": "alice"} if way == "sudo" else None
    script = "id -u; id -G; echo $HOME $USER $SUDO_USER; grep -E 'CapEff|CapInh|CapAmb' /proc/self/status | cut -f2"

    done = grouped.outside_of_tunnel("sh", "-c", script, options=options, env=env)

    nothing = "0" * 16
    assert done.stdout.splitlines() == ["4321", "4321 4400", "/home/alice alice", nothing, nothing, nothing], done.stderr


def refused(machine, *argv: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    done = machine.failshut("exec", *argv, env=env)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_what_stands_in_the_way_is_said(grouped):
    """No lock, no allowance, no such user, no such program, no resolver's file: one sentence each, and nothing is run."""
    run = ("--outside", "--", "echo", "started")
    grouped.write("/etc/failshut/failshut.toml", '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n')
    assert refused(grouped, *run) == (2, "failshut: /etc/failshut/failshut.toml lets no program outside the tunnel\n" + HELP)
    grouped.write("/etc/failshut/failshut.toml", '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n[outside]\n')
    assert refused(grouped, *run)[0] == 3
    grouped.arm()
    assert refused(grouped, *run)[0] == 2
    grouped.write("/etc/failshut/failshut.toml", '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n[outside]\n')
    said = HELP.replace("into it", "into the policy")
    assert refused(grouped, *run) == (1, "failshut: the armed lock lets no program outside\n" + said)
    grouped.must(*FAILSHUT, "arm")
    assert "no user 'nobodyatall'" in refused(grouped, "--outside", "--user", "nobodyatall", "--", "echo")[1]
    assert "no such program" in refused(grouped, "--outside", "--", "no-such-program")[1]
    assert refused(grouped, "--", "echo", "started")[0] == 2
    assert refused(grouped, "--outside")[0] == 2
    assert grouped.outside_of_tunnel("echo", "started").stdout == "started\n"


HELP = "  help: write [outside] into it, look with `failshut plan`, then `failshut arm`\n"


def test_only_root_may_let_a_program_out(grouped):
    """As any other user nothing is asked of the kernel."""
    done = grouped.run(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PYTHON, "-c", "import os; print(os.geteuid())"
    )
    assert done.stdout == "65534\n"

    told = grouped.run("unshare", "--user", "--map-user=1000", *FAILSHUT, "exec", "--outside", "--", "echo", "started")

    assert told.returncode == 4, told.stderr
    assert "only root" in told.stderr


def test_without_control_groups_it_is_refused(grouped):
    """The kernel could not tell the program from others: it does not start, and the reason is said."""
    grouped.arm(OUTSIDE)
    grouped.must("umount", "/sys/fs/cgroup")

    done = grouped.outside_of_tunnel("echo", "started")

    assert (done.returncode, done.stdout) == (1, "")
    assert "cgroup v2 is not mounted" in done.stderr
    assert sys.version_info >= (3, 11)
