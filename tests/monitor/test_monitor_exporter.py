"""The monitor serves the numbers where the armed policy says; what can't be served is said, and the rest goes on."""

from __future__ import annotations

import json

import pytest

from failshut.drill.network.wait import until
from sandbox import FAILSHUT
from watched import RUN

pytestmark = pytest.mark.lab

TUNNEL = '[tunnel.wg0]\nconfig = "/etc/wireguard/wg0.conf"\n'
SOCKET, TEXTFILE = f"{RUN}/metrics.socket", f"{RUN}/failshut.prom"
WORDS = "correct horse"
METRICS = f"""
[metrics]
listen = ["127.0.0.1:9586", "unix:{SOCKET}", "192.168.50.2:9587"]
textfile = "{TEXTFILE}"
password_file = "/etc/failshut/metrics-password"
"""
# Asks as Prometheus does, at an address or a socket; prints the answer, or the number of a refusal.
ASK = """
import base64, http.client, socket, sys
place, password = sys.argv[1:3]
client = http.client.HTTPConnection("x" if place.startswith("/") else place, timeout=20)
if place.startswith("/"):
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.connect(place)
headers = {"Authorization": "Basic " + base64.b64encode(f"failshut:{password}".encode()).decode()} if password else {}
client.request("GET", "/metrics", headers=headers)
answer = client.getresponse()
print(answer.read().decode() if answer.status == 200 else answer.status)
"""
# Listens at the exporter's own port; the other connects and says nothing, so many times, until it is ended.
SQUATTER = """
import socket, sys
sock = socket.create_server(("127.0.0.1", 9586))
print("ready", flush=True)
sys.stdin.read()
"""
SILENT = """
import socket, sys
kept = [socket.create_connection(("127.0.0.1", 9586)) for _ in range(int(sys.argv[1]))]
print("ready", flush=True)
sys.stdin.read()
"""


def ask(lab, place: str, password: str = WORDS) -> str:
    """Return what the exporter answers; "" where nobody does."""
    return lab.run("python3", "-c", ASK, place, password).stdout


@pytest.fixture(scope="module")
def exporting(lab):
    """The lab with a policy that has the numbers served."""
    lab.write("/etc/failshut/metrics-password", f"{WORDS}\n")
    lab.write("/etc/failshut/failshut.toml", TUNNEL + METRICS)
    assert lab.failshut("plan", "--exit-code").returncode == 10
    lab.must(*FAILSHUT, "arm")
    return lab


@pytest.fixture
def served(exporting):
    """The monitor up, and asked once."""
    exporting.watch_lock()
    assert until(lambda: "failshut_armed" in ask(exporting, "127.0.0.1:9586"), within=90)
    yield exporting
    exporting.leave_unwatched()


@pytest.fixture
def squatter(exporting):
    """Somebody else at the exporter's port; never longer than the test."""
    squatting = exporting.start("python3", "-c", SQUATTER)
    assert squatting.stdout.readline() == "ready\n"
    yield squatting
    squatting.communicate()


def test_a_port_that_is_taken_is_said_and_the_rest_is_served(exporting, squatter):
    lab, said = exporting, ["the numbers can't be served at 127.0.0.1:9586: Address already in use"]
    lab.watch_lock()

    assert until(lambda: "failshut_armed 1.0" in ask(lab, SOCKET), within=90)
    assert until(lambda: lab.await_status()["troubles"] == said, within=90)
    lab.must("nft", "flush", "ruleset")
    lab.await_event("drift")
    squatter.communicate()
    # Tried again by itself; and by what others reach it with.
    assert until(lambda: "failshut_drift_restored_total 1.0" in ask(lab, "127.0.0.1:9586"), within=90)
    assert "failshut_armed" in ask(lab, "192.168.50.2:9587")
    assert until(lambda: lab.state()["troubles"] == [], within=90)
    assert until(lambda: "failshut_armed 1.0" in lab.read(TEXTFILE), within=90)
    assert lab.leave_unwatched().count("Address already in use") == 1


def test_numbers_need_the_password_and_hold_no_secret(served):
    lab = served
    said = ask(lab, "127.0.0.1:9586")

    assert [ask(lab, place, password) for place in ("127.0.0.1:9586", SOCKET) for password in ("", "wrong")] == ["401\n"] * 4
    assert 'failshut_layer_loaded{layer="ip"} 1.0' in said
    assert "failshut_monitor_running 1.0" in said
    assert 'wireguard_latest_handshake_seconds{allowed_ips="' in said
    assert lab.must("wg", "show", "wg0", "peers").strip() in said
    for secret in ("private-key", "preshared-keys"):
        (*_, value) = lab.must("wg", "show", "wg0", secret).split()
        assert value == "(none)" or value not in said
    stamps = {each["mark"] for each in _marks(json.loads(lab.must("nft", "-j", "list", "table", "netdev", "failshut")))}
    assert stamps
    assert not any(str(each) in said or f"{each:x}" in said for each in stamps)


def test_those_who_ask_and_say_nothing_keep_nobody_out(served):
    """Nor do they keep the monitor from its work, however many they are."""
    lab = served
    silent = lab.start("python3", "-c", SILENT, "200")
    assert silent.stdout.readline() == "ready\n"
    armed = lab.chain()
    lab.must("nft", "flush", "ruleset")

    assert until(lambda: lab.chain() == armed, within=90)
    assert len(lab.must("ls", f"/proc/{lab.monitor}/task").split()) < 16
    assert until(lambda: "failshut_armed" in ask(lab, "127.0.0.1:9586"), within=60, step=0.5)
    silent.kill()
    silent.wait()


def test_other_settings_take_effect_with_the_next_arming(served):
    """Without a restart; a policy without them has nobody serve."""
    lab = served
    lab.write("/etc/failshut/failshut.toml", TUNNEL + '[metrics]\nlisten = ["[::1]:9999"]\n')
    lab.must(*FAILSHUT, "arm")
    assert until(lambda: "failshut_armed" in ask(lab, "[::1]:9999", ""), within=90)
    assert ask(lab, "127.0.0.1:9586") == ask(lab, SOCKET) == ""
    lab.write("/etc/failshut/failshut.toml", TUNNEL)
    lab.must(*FAILSHUT, "arm")
    assert until(lambda: ask(lab, "[::1]:9999", "") == "", within=90)

    assert lab.state()["lock"] == "armed"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('listen = ["0.0.0.0:9586"]', "0.0.0.0:9586 is reached by others"),
        ('listen = ["[fd50::2]:9586"]', "[fd50::2]:9586 is reached by others"),
        ('listen = ["localhost:9586"]', "no address and port"),
        ('listen = ["::1:9586"]', "no address and port"),
        ('listen = ["unix:metrics.socket"]', "does not begin at the root"),
        ('textfile = "/var/lib/metrics.txt"', "passed over by node_exporter"),
        ('key = "/etc/key.pem"', "a key without its certificate"),
    ],
)
def test_settings_that_can_not_be_meant_are_findings(table, said, sandbox):
    sandbox.adopt_example()
    sandbox.write("/etc/failshut/failshut.toml", f"{TUNNEL}[metrics]\n{table}\n")

    done = sandbox.failshut("check")

    assert done.returncode == 2
    assert said in done.stdout + done.stderr


def _marks(tree: object) -> list[dict]:
    """Return every comparison with the packet's mark, as `{"mark": number}`."""
    match tree:
        case {"match": {"left": {"meta": {"key": "mark"}}, "right": int() as number}}:
            return [{"mark": number}]
        case dict():
            return [each for value in tree.values() for each in _marks(value)]
        case list():
            return [each for value in tree for each in _marks(value)]
        case _:
            return []
