"""`FAILSHUT_*` variables become a policy, or findings that name the variable."""

from __future__ import annotations

import tomllib

import pytest

from failshut.config import policy_file
from failshut.config.declaration import Declaration
from failshut.config.environment import VARIABLES, policy_text
from failshut.model.finding import Code


def read(**variables: str) -> dict:
    text = policy_text({"PATH": "/bin", **variables})
    assert isinstance(text, str), text
    declared = policy_file.parse(text, "failshut.toml")
    assert isinstance(declared, Declaration)
    assert not declared.findings
    return tomllib.loads(text)


def test_without_a_variable_the_tunnel_is_wg0_and_nothing_goes_beside_it():
    assert read() == {"tunnel": {"wg0": {"config": "/run/wireguard/wg0.conf"}}, "allow": {"dhcp": False}}


def test_a_web_interface_is_reached_from_the_lan():
    allow = read(FAILSHUT_LAN="192.168.1.0/24,fd50::/64", FAILSHUT_INBOUND="tcp/8080")["allow"]
    lan = ["192.168.1.0/24", "fd50::/64"]
    assert allow["lan"] == {"prefixes": lan}
    assert allow["inbound"] == [{"name": "tcp-8080", "protocol": "tcp", "port": 8080, "from": lan}]


def test_who_may_connect_need_not_be_who_is_reached():
    allow = read(FAILSHUT_INBOUND="tcp/8080 udp/6881, tcp/8080", FAILSHUT_INBOUND_FROM="10.0.0.0/8")["allow"]
    assert [each["name"] for each in allow["inbound"]] == ["tcp-8080", "udp-6881"]
    assert "lan" not in allow


@pytest.mark.parametrize("value", ["", "   ", ","])
def test_an_empty_variable_is_as_if_it_were_not_there(value):
    assert read(FAILSHUT_LAN=value) == read()


@pytest.mark.parametrize(
    ("variables", "code", "at", "help_has"),
    [
        ({"FAILSHUT_LNA": "10.0.0.0/8"}, Code.UNKNOWN_KEY, "FAILSHUT_LNA", "FAILSHUT_LAN?"),
        ({"FAILSHUT_WEBUI_PASSWORD": "1"}, Code.UNKNOWN_KEY, "FAILSHUT_WEBUI_PASSWORD", "FAILSHUT_TUNNEL"),
        ({"FAILSHUT_TUNNEL": "lo"}, Code.BAD_VALUE, "FAILSHUT_TUNNEL", "wg0"),
        ({"FAILSHUT_LAN": "192.168.1.0/33"}, Code.BAD_VALUE, "FAILSHUT_LAN", ""),
        ({"FAILSHUT_LAN": "10.0.0.0/8", "FAILSHUT_INBOUND": "8080"}, Code.BAD_VALUE, "FAILSHUT_INBOUND", ""),
        ({"FAILSHUT_LAN": "10.0.0.0/8", "FAILSHUT_INBOUND": "tcp/1-9"}, Code.BAD_VALUE, "FAILSHUT_INBOUND", "each port"),
        ({"FAILSHUT_INBOUND": "tcp/8080"}, Code.OPEN_SERVICE, "FAILSHUT_INBOUND", "FAILSHUT_INBOUND_FROM"),
    ],
)
def test_a_mistake_is_named_by_its_variable(variables, code, at, help_has):
    findings = policy_text(variables)
    assert [(each.code, str(each.place)) for each in findings] == [(code, at)]
    assert help_has in findings[0].help


def test_every_mistake_is_said_at_once():
    findings = policy_text({"FAILSHUT_LAN": "x", "FAILSHUT_INBOUND": "y", "FAILSHUT_Z": "1"})
    assert len(findings) == 3
    assert set(VARIABLES) > {str(each.place) for each in findings} - {"FAILSHUT_Z"}
