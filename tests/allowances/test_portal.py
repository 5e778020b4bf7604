"""A captive portal, signed in to by one browser; whatever else the machine sends in the meantime stays in it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import portal_simulator
from failshut.drill.network.wait import until
from failshut.model.timed import TIMED
from grouped import INTERNET4, INTERNET6, ROUTER4, TUNNEL4, TUNNEL6, Grouped
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

ALLOWED = "[allow]\nportal = true"
USER = {"SUDO_UID": "65534"}
SETS = ("portal-programs", "portal-dns4", "portal-dns6")
PYTHON = "/usr/bin/python3"

# What a careless program does, over and over: names, the web, anything.
NOISE = f"""
import os, socket, sys
n = 0
while True:
    for host, port in (("{INTERNET4}", 9001), ("{ROUTER4}", 53), ("{ROUTER4}", 443), ("{INTERNET6}", 9001)):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(family, kind) as sock:
                sock.setblocking(False)
                try:
                    sock.connect((host, port))
                    sock.send(b"noise")
                except OSError:
                    pass
    n += 1
    open(sys.argv[1] + ".new", "w").write(str(n))
    os.replace(sys.argv[1] + ".new", sys.argv[1])
"""

# Signs in as a person would, by name; before that it tries what no sign-in needs. Then it stays open.
BROWSER = f"""#!{PYTHON}
import os, signal, socket, sys, urllib.request
log = open("/run/log/browser", "w")
own = [open(each).read() for each in ("/proc/self/cgroup", "/etc/resolv.conf")]
for line in (os.getuid(), os.environ["HOME"], own[0].split()[-1], own[1].strip()):
    print(line, file=log)
for kind, host, port in ((2, "{INTERNET4}", 9001), (1, "{INTERNET4}", 8080), (2, "{INTERNET4}", 53), (2, "{INTERNET4}", 443)):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(0.2)
        try:
            sock.connect((host, port))
            sock.send(b"browser")
        except OSError:
            pass
print(sys.argv[1], socket.gethostbyname("some.example"), file=log)
page = sys.argv[1].replace("{ROUTER4}", "some.example")
print(urllib.request.urlopen(page, data=b"room=7").read().decode(), file=log, flush=True)
open(os.environ["HOME"] + "/cookie", "w").close()
signal.pause()
"""

# Never signs in, and counts what it tries: a connection to the web every time, and more on the first that was taken.
SENDER = f"""#!{PYTHON}
import os, socket
stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
stream.settimeout(2)
try:
    stream.connect(("{INTERNET4}", 443))
except OSError:
    pass
stream.setblocking(False)
n = 0
while True:
    try:
        stream.send(b"stream")
    except OSError:
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(0.05)
        try:
            sock.connect(("{INTERNET4}", 443))
        except OSError:
            pass
    n += 1
    open("/run/log/tries.new", "w").write(str(n))
    os.replace("/run/log/tries.new", "/run/log/tries")
"""


@contextmanager
def portal(machine: Grouped, *words: str) -> Iterator[None]:
    """Have a portal at the other end of the cable, and a machine that is armed and dark behind it."""
    for name, text in (("browser", BROWSER), ("sender", SENDER)):
        machine.write(f"/run/{name}", text)
        machine.must("chmod", "755", f"/run/{name}")
    machine.must("install", "-d", "-m", "1777", "/run/log")
    simulator = machine.at_server("python3", portal_simulator.__file__, ROUTER4, *words)
    assert simulator.stdout.readline() == "ready\n"
    machine.arm(ALLOWED)
    try:
        yield
    finally:
        simulator.kill()
        simulator.communicate()


def sign_in(machine: Grouped, *options: str) -> tuple[int, dict]:
    given = () if "--resolver" in options else ("--resolver", ROUTER4)
    done = machine.failshut("portal", "--json", *given, *options, env=USER)
    return done.returncode, json.loads(done.stdout or "{}") or {"failed": done.stderr}


def is_shut(machine: Grouped) -> bool:
    """Whether the kernel lets nobody sign in."""
    return all('"elem"' not in machine.must("nft", "-j", "list", "set", "inet", "failshut", each) for each in SETS)


WEB = f"""
import socket, threading
listening = socket.create_server(("{INTERNET4}", 443), backlog=512)
print("ready", flush=True)
def drain(connection):
    while connection.recv(65536):
        pass
while True:
    threading.Thread(target=drain, args=(listening.accept()[0],), daemon=True).start()
"""


def number(machine: Grouped, path: str) -> int:
    return int(machine.read(path) or 0)


def clear(frames) -> set[tuple[str, str, int]]:
    return {(each.protocol, each.target, each.port) for each in frames if each.device == "cable"}


@pytest.mark.scenario(84)
def test_one_browser_signs_in_and_nothing_else_leaves(grouped):
    """The resolver and the web for the browser and our probe; of all the machine sends meanwhile nothing; then the tunnel is up."""
    with portal(grouped):
        noise = grouped.start(PYTHON, "-c", NOISE, "/run/noise")
        assert until(lambda: number(grouped, "/run/noise") > 3, within=20, step=0.1)
        grouped.watch()

        code, report = sign_in(grouped, "--browser", "/run/browser")
        sent = number(grouped, "/run/noise")
        frames = grouped.seen()

        assert (code, report.get("ending"), report.get("verdict")) == (0, "signed-in", "portal"), report
        assert report["page"] == f"http://{ROUTER4}/login"
        assert clear(frames) == {("udp", ROUTER4, 53), ("tcp", ROUTER4, 80)}
        assert sent > 10
        assert is_shut(grouped)
        seen = {TUNNEL4, TUNNEL6}
        assert set(grouped.ask().values()) == seen
        grouped.must(*FAILSHUT, "disarm", "--yes")
        # The control: without the lock, and without the tunnel, the same noise is all over the cable.
        grouped.must("wg-quick", "down", "wg0")
        grouped.watch()
        sent = number(grouped, "/run/noise")
        assert until(lambda: number(grouped, "/run/noise") > sent + 3, within=20, step=0.1)
        assert {("udp", INTERNET4, 9001), ("udp", ROUTER4, 53), ("tcp", ROUTER4, 443)} <= clear(grouped.seen())
        noise.kill()
        noise.communicate()


def test_the_browser_is_the_users_and_nothing_of_it_remains(grouped):
    """It runs as the calling user with a home, a resolver and a group of its own; then it is gone, and its profile with it."""
    with portal(grouped):
        code, report = sign_in(grouped, "--browser", "/run/browser")

        assert code == 0, report
        uid, home, group, *resolver, page, answered = grouped.read("/run/log/browser").splitlines()
        assert uid == "65534"
        assert home.startswith("/run/failshut-portal-")
        assert "/failshut.slice/failshut-portal.slice/" in group
        assert resolver[-1] == f"nameserver {ROUTER4}"
        assert page == f"http://{ROUTER4}/login {ROUTER4}"
        assert answered == "You are connected."
        assert grouped.must("sh", "-c", "ls -d /run/failshut-portal-*/ 2>/dev/null || true") == ""
        assert grouped.run("pgrep", "-f", "^/usr/bin/python3 /run/browser").stdout == ""


def test_killed_it_ends_on_time_all_the_same(grouped):
    """After kill -9 the browser lives, and is dark also on a connection it had: the kernel keeps the time. Before, it is not."""
    with portal(grouped):
        web = grouped.at_server("python3", "-c", WEB)
        assert web.stdout.readline() == "ready\n"
        options = ("--timeout", "6s", "--resolver", ROUTER4, "--browser", "/run/sender")
        grouped.watch()
        process = grouped.start(*FAILSHUT, "portal", "--user", "nobody", *options)
        assert until(lambda: number(grouped, "/run/log/tries") > 3, within=30, step=0.05)
        process.kill()
        # Its output stays open: the browser has it too.
        process.wait(30)
        before = grouped.seen()
        assert clear(before) >= {("tcp", INTERNET4, 443)}
        assert any(each.payload.startswith("stream") for each in before)

        assert until(lambda: is_shut(grouped), within=30, step=0.1)
        grouped.watch()
        tried = number(grouped, "/run/log/tries")
        assert until(lambda: number(grouped, "/run/log/tries") > tried + 10, within=30, step=0.05)

        assert clear(grouped.seen()) == set()
        web.kill()
        web.communicate()


def test_who_was_left_running_has_no_part_in_the_next_sign_in(grouped):
    """What a killed `portal` left in the group would be let out with the next browser. The control: at first it was out."""
    with portal(grouped):
        grouped.write("/run/second", SENDER.replace('stream"', 'second"').replace("tries", "second"))
        grouped.must("chmod", "755", "/run/second")
        web = grouped.at_server("python3", "-c", WEB)
        assert web.stdout.readline() == "ready\n"
        grouped.watch()
        process = grouped.start(*FAILSHUT, "portal", "--user", "nobody", "--resolver", ROUTER4, "--browser", "/run/sender")
        assert until(lambda: number(grouped, "/run/log/tries") > 3, within=30, step=0.05)
        process.kill()
        process.wait(30)
        assert any(each.payload.startswith("stream") for each in grouped.seen()), "the control"

        process = grouped.start(*FAILSHUT, "portal", "--user", "nobody", "--resolver", ROUTER4, "--browser", "/run/second")
        assert until(lambda: number(grouped, "/run/log/second") > 3, within=30, step=0.05)
        grouped.watch()
        tried = number(grouped, "/run/log/second")
        assert until(lambda: number(grouped, "/run/log/second") > tried + 10, within=30, step=0.05)

        assert {each.payload[:6] for each in grouped.seen()} & {"stream", "second"} == {"second"}
        process.terminate()
        process.wait(30)
        web.kill()
        web.communicate()


def test_when_the_time_is_up_it_is_shut(grouped):
    """A browser that does not sign in is ended with its allowance."""
    with portal(grouped):
        code, report = sign_in(grouped, "--timeout", "3s", "--browser", "/run/sender")

        assert (code, report.get("ending")) == (1, "time-up"), report
        assert is_shut(grouped)
        assert grouped.run("pgrep", "-f", "^/usr/bin/python3 /run/sender").stdout == ""


def test_ctrl_c_shuts_it(grouped):
    """Interrupted, it is shut before the program ends."""
    with portal(grouped):
        process = grouped.start(
            *(*FAILSHUT, "portal", "--json", "--user", "nobody", "--resolver", ROUTER4, "--browser", "/run/sender")
        )
        assert until(lambda: number(grouped, "/run/log/tries") > 1, within=30, step=0.05)
        assert not is_shut(grouped)
        second = grouped.failshut("portal", "--resolver", ROUTER4)
        assert (second.returncode, "another `failshut portal`" in second.stderr) == (1, True)

        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)

        assert (process.returncode, json.loads(out)["ending"]) == (1, "stopped")
        assert is_shut(grouped)


def test_what_is_revoked_beside_it_leaves_no_look_up_behind(grouped):
    """With the last opening, the gate of what is open for a time is shut; the sign-in has none, and goes on."""
    opening = ("to", f"{INTERNET4}:9001/udp")
    with portal(grouped):
        assert grouped.failshut("allow", *opening, "--for", "10m").returncode == 0
        process = grouped.start(*FAILSHUT, "portal", "--user", "nobody", "--resolver", ROUTER4, "--browser", "/run/sender")
        assert until(lambda: number(grouped, "/run/log/tries") > 1, within=30, step=0.05)
        assert '"elem"' in grouped.must("nft", "-j", "list", "set", "inet", "failshut", TIMED), "the control"

        assert grouped.failshut("revoke", *opening).returncode == 0

        assert '"elem"' not in grouped.must("nft", "-j", "list", "set", "inet", "failshut", TIMED)
        assert not is_shut(grouped)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_a_browser_that_is_closed_shuts_it(grouped):
    """Closed without a sign-in, it is said that the tunnel has no way."""
    with portal(grouped):
        code, report = sign_in(grouped, "--browser", "/bin/true")

        assert (code, report.get("ending")) == (1, "browser-ended"), report
        assert is_shut(grouped)


def test_without_a_portal_no_browser_is_started(grouped):
    """A network that answers the page itself has no portal; DHCP's resolver was found in networkd's lease."""
    with portal(grouped, "open"):
        index = json.loads(grouped.must("ip", "-j", "link", "show", "dev", "eth0"))[0]["ifindex"]
        grouped.write(f"/run/systemd/netif/leases/{index}", f"ADDRESS=192.168.50.2\nDNS={ROUTER4}\n")

        done = grouped.failshut("portal", "--json", "--browser", "/run/sender")

        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["ending"], report["resolvers"]) == ("no-portal", [{"address": ROUTER4, "source": "systemd-networkd"}])
        assert number(grouped, "/run/log/tries") == 0
        assert is_shut(grouped)


def test_a_network_that_is_silent_is_told_from_a_portal(grouped):
    """No resolver answers: nothing is opened for a browser."""
    with portal(grouped):
        code, report = sign_in(grouped, "--resolver", INTERNET4, "--browser", "/run/sender")

        assert (code, report.get("ending"), report.get("verdict")) == (1, "no-answer", "no-name"), report
        assert number(grouped, "/run/log/tries") == 0
        assert is_shut(grouped)


def test_what_the_policy_does_not_allow_is_refused(grouped):
    """Without `portal = true` the lock has no list to be put on."""
    grouped.arm()

    done = grouped.failshut("portal", "--resolver", ROUTER4)

    assert done.returncode == 1
    assert "lets nobody sign in" in done.stderr
    assert "portal = true" in done.stderr
