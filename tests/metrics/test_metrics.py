"""Metrics: promtool and a real Prometheus read them, in a namespace of their own."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from failshut.drill.network.wait import until
from failshut.metrics.catalogue import ALERTS
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "packaging/monitoring"
# Unpacked by tools/setup.sh; else one that is installed.
_UNPACKED = Path(sys.prefix) / "prometheus/usr/bin"
PROMETHEUS, PROMTOOL = (str(_UNPACKED / each) if (_UNPACKED / each).exists() else each for each in ("prometheus", "promtool"))
FETCH = """
import base64, ssl, sys, urllib.error, urllib.request
context = ssl._create_unverified_context()
request = urllib.request.Request(sys.argv[1])
if sys.argv[2:]:
    request.add_header("Authorization", "Basic " + base64.b64encode(sys.argv[2].encode()).decode())
try:
    print(urllib.request.urlopen(request, timeout=10, context=context).read().decode())
except urllib.error.HTTPError as refused:
    print(refused.code)
"""


def fetch(sandbox, *words: str) -> str:
    return sandbox.run("python3", "-c", FETCH, *words).stdout


def exporter(sandbox, *options: str):
    """Start an exporter on a free port; return it and its address."""
    process = sandbox.start(*FAILSHUT, "metrics", "--listen", "127.0.0.1:0", *options)
    return process, process.stdout.readline().split()[-1]


def test_dashboards_and_alerts_are_made_of_the_list():
    """`tools/dashboards.py` writes them; what is committed is what it writes."""
    made = runpy.run_path(str(ROOT / "tools/dashboards.py"))["written"]()

    assert {path.name: path.read_text() for path in made} == {path.name: text for path, text in made.items()}


def test_promtool_takes_the_configuration_the_rules_and_the_metrics(sandbox):
    """Also as lint: names, units and help."""
    sandbox.adopt_example()
    assert sandbox.failshut("arm").returncode == 0
    text = sandbox.failshut("metrics").stdout

    for argv, given in (
        ((PROMTOOL, "check", "config", str(MONITORING / "prometheus.yml")), None),
        ((PROMTOOL, "check", "rules", str(MONITORING / "alerts.yml")), None),
        ((PROMTOOL, "check", "metrics"), text),
    ):
        done = sandbox.run(*argv, stdin=given)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "failshut_armed 1.0" in text
    assert 'failshut_under_ip{device="eth0"} 1.0' in text
    assert 'failshut_tunnel_up{interface="wg0"} 0.0' in text


# What a machine must say for each alert to fire.
FIRING = {
    "FailshutDisarmed": {"failshut_armed": 0, "failshut_known": 1},
    "FailshutDrift": {"failshut_drift": 1},
    "FailshutLeak": {'failshut_last_run_leaks{verb="verify"}': 3},
    "FailshutUnguarded": {"failshut_guarded": 0, "failshut_armed": 1},
    "FailshutBelowIpOpen": {'failshut_under_ip{device="usb0"}': 0},
    "FailshutBootUnsound": {"failshut_boot_sound": 0, "failshut_armed": 1},
    "FailshutTunnelDown": {'failshut_tunnel_up{interface="wg0"}': 0},
    "FailshutServerDown": {"failshut_server_up": 0},
    "FailshutUnknown": {"failshut_known": 0},
}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_each_alert_fires_for_what_it_is_about_and_for_nothing_else(alert, sandbox, tmp_path):
    """By promtool's own tests of rules; the machine that is well fires none."""
    well = {"failshut_armed": 1, "failshut_known": 1, "failshut_drift": 0, "failshut_guarded": 1, "failshut_boot_sound": 1}

    def fires(values: dict[str, float]) -> list[str]:
        series = [{"series": name, "values": f"{value}x30"} for name, value in values.items()]
        (tmp_path / "alerts.yml").write_text((MONITORING / "alerts.yml").read_text())
        fired = []
        for each in ALERTS:
            test = {
                "input_series": series,
                "interval": "1m",
                "alert_rule_test": [{"eval_time": "20m", "alertname": each.name, "exp_alerts": []}],
            }
            (tmp_path / "test.yml").write_text(json.dumps({"rule_files": ["alerts.yml"], "tests": [test]}))
            if sandbox.run(PROMTOOL, "test", "rules", str(tmp_path / "test.yml")).returncode:
                fired.append(each.name)
        return fired

    assert fires(well) == []
    assert fires(FIRING[alert.name]) == [alert.name]


def test_a_real_prometheus_scrapes_a_real_exporter(sandbox, tmp_path):
    """Armed, then disarmed: Prometheus knows, and its alert is on."""
    sandbox.adopt_example()
    assert sandbox.failshut("arm").returncode == 0
    _, address = exporter(sandbox)
    target = address.removeprefix("http://").removesuffix("/metrics")
    (tmp_path / "prometheus.yml").write_text(
        (MONITORING / "prometheus.yml")
        .read_text()
        .replace("scrape_interval: 30s", "scrape_interval: 1s\n  evaluation_interval: 1s")
    )
    (tmp_path / "alerts.yml").write_text((MONITORING / "alerts.yml").read_text().replace("for: 1m", "for: 0m"))
    (tmp_path / "targets.json").write_text(json.dumps([{"targets": [target]}]))
    options = (f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data")
    sandbox.start(PROMETHEUS, *options, "--web.listen-address=127.0.0.1:9090")

    def asked(query: str) -> list[float]:
        said = fetch(sandbox, f"http://127.0.0.1:9090/api/v1/query?query={query}")
        # Nothing, or "service unavailable", while it starts.
        results = json.loads(said)["data"]["result"] if said.startswith("{") else []
        return [float(each["value"][1]) for each in results]

    assert until(lambda: asked("failshut_armed") == [1], within=60, step=0.5)
    assert sandbox.failshut("disarm", "--yes").returncode == 0
    assert until(lambda: asked("failshut_armed") == [0], within=60, step=0.5)
    assert until(lambda: asked('ALERTS{alertname="FailshutDisarmed",alertstate="firing"}') == [1], within=60, step=0.5)


def test_a_password_is_asked_for(sandbox, tmp_path):
    """Without it, and with another, there are no numbers."""
    (tmp_path / "password").write_text("correct horse\n")
    _, address = exporter(sandbox, "--password-file", str(tmp_path / "password"))

    assert fetch(sandbox, address) == "401\n"
    assert fetch(sandbox, address, "failshut:wrong") == "401\n"
    assert "failshut_armed" in fetch(sandbox, address, "failshut:correct horse")


def test_numbers_over_tls(sandbox, tmp_path):
    """With a certificate; a client that speaks no TLS stops nobody else."""
    made = ("-nodes", "-subj", "/CN=localhost", "-keyout", f"{tmp_path}/key.pem", "-out", f"{tmp_path}/certificate.pem")
    assert sandbox.run("openssl", "req", "-x509", "-newkey", "rsa:2048", *made).returncode == 0
    _, address = exporter(sandbox, "--certificate", f"{tmp_path}/certificate.pem", "--key", f"{tmp_path}/key.pem")

    assert fetch(sandbox, address.replace("https", "http")) == ""
    assert "failshut_armed" in fetch(sandbox, address)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--listen", "192.0.2.1:9586"), "not loopback"),
        (("--listen", "localhost:9586"), "no address and port"),
        (("--listen", "127.0.0.1:99999"), "no address and port"),
        (("--textfile", "/proc/nothing.prom"), "can't be written"),
        (("--listen", "127.0.0.1:9586", "--password-file", "/nowhere"), "can't be read"),
    ],
)
def test_what_can_not_be_is_said(options, said, sandbox):
    """In a sentence, without a traceback."""
    done = sandbox.failshut("metrics", *options)

    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(sandbox):
    """And by whom it may be."""
    _, address = exporter(sandbox)
    port = address.split(":")[2].split("/")[0]

    done = sandbox.failshut("metrics", "--listen", f"127.0.0.1:{port}")

    assert done.returncode == 1
    assert "another exporter" in done.stderr


def test_a_text_file_for_node_exporter(sandbox, tmp_path):
    """Whole or not at all, readable by others."""
    file = tmp_path / "failshut.prom"

    assert sandbox.failshut("metrics", "--textfile", str(file)).returncode == 0
    assert "failshut_armed 0.0" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644


def test_the_last_audit_of_the_running_kernel_is_a_number(sandbox):
    """An armed lock is proved; without it the audit sees leaks. An audit of a file says nothing of this machine."""
    sandbox.adopt_example()
    assert sandbox.failshut("arm").returncode == 0
    assert sandbox.failshut("audit").returncode == 0
    proved = sandbox.failshut("metrics").stdout
    sandbox.run("nft", "flush", "ruleset")
    assert sandbox.failshut("audit").returncode == 12
    leaking = sandbox.failshut("metrics").stdout

    assert 'failshut_last_run_ok{verb="audit"} 1.0' in proved
    assert 'failshut_last_run_leaks{verb="audit"} 0.0' in proved
    assert 'failshut_last_run_ok{verb="audit"} 0.0' in leaking
    assert "failshut_drift 1.0" in leaking
