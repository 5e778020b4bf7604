"""What `init` finds around the machine: the default route's network and the SSH session."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_address, ip_network

import pytest

from failshut.host.network import listed, surroundings
from failshut.host.run import NoAnswerError, Result


@pytest.fixture
def ip(monkeypatch):
    """Return the answers of `ip`, by its words; what is not there is empty."""
    answers = {}

    def run(argv, **_options):
        answer = answers.get(" ".join(argv[1:]), [])
        return Result(tuple(argv), 0, answer if isinstance(answer, str) else json.dumps(answer), "")

    monkeypatch.setattr(listed, "run", run)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(surroundings, "_ancestors", lambda: iter(()))
    return answers


def address(local, length, scope="global"):
    """Return an address as `ip -j addr` shows it."""
    return {"local": local, "prefixlen": length, "scope": scope}


def test_the_route_with_the_lowest_metric_is_the_lan_s(ip):
    """Ethernet before Wi-Fi; a tunnel's default route is none of the underlay."""
    ip["-j -4 route show default"] = [{"dev": "wlan0", "metric": 600}, {"dev": "eth0", "metric": 100}, {"dev": "wg0"}]
    ip["-j addr show dev eth0"] = [
        {"addr_info": [address("192.168.50.7", 24), address("fd50::7", 64), address("fe80::1", 64, "link")]}
    ]
    lan = surroundings.local_network(["wg0"], [])

    assert lan.offer.interface == "eth0"
    assert lan.offer.prefixes == (ip_network("192.168.50.0/24"), ip_network("fd50::/64"))
    assert lan.left_out == ()


@pytest.mark.parametrize("local", ["8.8.8.9", "100.64.0.5", "2001:db8::5", "192.0.2.5"])
def test_what_is_not_private_is_left_out_with_its_reason(ip, local):
    """A carrier's NAT and a public network are other people's."""
    ip["-j -4 route show default"] = [{"dev": "eth0"}]
    ip["-j addr show dev eth0"] = [{"addr_info": [address(local, 24)]}]
    lan = surroundings.local_network([], [])

    assert lan.offer is None
    assert "not private" in lan.left_out[0]


def test_a_network_that_holds_the_endpoint_is_left_out(ip):
    """The rest is still offered."""
    ip["-j -6 route show default"] = [{"dev": "eth0"}]
    ip["-j addr show dev eth0"] = [{"addr_info": [address("192.168.50.7", 24), address("fd50::7", 64)]}]
    lan = surroundings.local_network([], [ip_address("192.168.50.1")])

    assert lan.offer.prefixes == (ip_network("fd50::/64"),)
    assert "endpoint" in lan.left_out[0]


@pytest.mark.parametrize("answer", ["", "{}", '[{"dev": null}]', '[{"dev": "eth0", "addr_info": [{}]}]'])
def test_a_strange_answer_of_ip_is_no_offer(ip, answer):
    """An offer is a courtesy: without it there is a policy all the same."""
    for words in ("-j -4 route show default", "-j addr show dev eth0", "-j addr"):
        ip[words] = answer

    assert surroundings.local_network([], []).offer is None


@pytest.mark.parametrize("answer", ["not json", "[1, 2]", "7"])
def test_an_ip_that_answers_something_else_is_not_taken_for_a_machine_without_devices(ip, answer):
    """Who decides by it what is to be held would hold nothing."""
    ip["-j addr"] = answer

    with pytest.raises(NoAnswerError, match="ip -j addr does not answer in JSON"):
        listed.listed("addr")


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("192.168.50.20 50000 192.168.50.7 22", "192.168.50.0/24"),
        ("198.51.100.9 50000 192.168.50.7 22", "198.51.100.9/32"),
        ("2001:db8:51::9 50000 fd50::7 22", "2001:db8:51::9/128"),
        ("::ffff:192.168.50.20 50000 ::ffff:192.168.50.7 22", "192.168.50.0/24"),
        ("fe80::2%eth0 50000 fe80::1%eth0 22", "fe80::2/128"),
    ],
)
def test_the_session_s_client_is_allowed_and_no_more(ip, monkeypatch, value, source):
    """Its private on-link network, because its address may change there; else the one address."""
    ip["-j addr"] = [{"addr_info": [address("192.168.50.7", 24)]}]
    monkeypatch.setenv("SSH_CONNECTION", value)
    offer = surroundings.ssh_session([])

    assert (offer.port, str(offer.source)) == (22, source)


def test_the_session_is_found_under_sudo():
    """Sudo takes SSH_CONNECTION away; the shell above still has it."""
    inner = "from failshut.host.network.surroundings import ssh_session; print(ssh_session([]).source)"
    middle = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], env={{}}, check=True)"
    shell = {"SSH_CONNECTION": "198.51.100.9 50000 192.0.2.1 22", "PATH": "/usr/bin:/bin"}
    found = subprocess.run([sys.executable, "-c", middle], env=shell, capture_output=True, text=True, check=True)

    assert found.stdout == "198.51.100.9/32\n"
