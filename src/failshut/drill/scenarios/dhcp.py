"""DHCP with real programs: a lease and its renewal must pass, and what a rogue server hands out must change nothing."""

from __future__ import annotations

import signal
import subprocess

from failshut.drill.lab import Lab, NotHereError
from failshut.drill.network.netns import SetUpError
from failshut.drill.network.wait import until
from failshut.drill.network.wireguard import CONFIGS
from failshut.drill.scenario import Kind, Need, Scenario
from failshut.drill.scenarios.guide import keep_carrying
from failshut.drill.scenarios.routing import new_flows
from failshut.host.run import find

LOG, SCRIPT = CONFIGS / "dnsmasq.log", CONFIGS / "udhcpc.sh"
LEASED = 150
# udhcpc's script gets the lease in its environment; option 121 comes as "prefix router prefix router …".
SCRIPT_TEXT = """#!/bin/sh
case "$1" in bound|renew) ;; *) exit 0 ;; esac
ip address replace "$ip/$mask" dev "$interface"
set -- $staticroutes
while [ "$#" -ge 2 ]; do ip route replace "$1" via "$2" dev "$interface"; shift 2; done
exit 0
"""


def _serve(lab: Lab, *options: str) -> None:
    """Start dnsmasq on the router, with one address to lease."""
    if not lab.policy.dhcp:
        raise NotHereError("the policy does not allow DHCP")
    cable = lab.plan.cable
    address = cable.neighbour(4, LEASED).ip
    lab.own.setdefault(lab.device, set()).add(address)
    lab.hosts.router.start(
        *(
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--group=root",
            "--port=0",
            "--no-ping",
            "--log-dhcp",
        ),
        *(f"--interface={cable.bridge}", "--bind-interfaces", f"--dhcp-range={address},{address},2m", f"--log-facility={LOG}"),
        *(f"--dhcp-leasefile={CONFIGS / 'leases'}", f"--pid-file={CONFIGS / 'dnsmasq.pid'}", *options),
    )
    SCRIPT.write_text(SCRIPT_TEXT)
    SCRIPT.chmod(0o755)
    if not until(lambda: LOG.exists() and "started" in LOG.read_text(), within=3):
        raise SetUpError(f"dnsmasq did not start: {LOG.read_text()[-300:] if LOG.exists() else 'no log'}")


def _acknowledged() -> int:
    return LOG.read_text().count("DHCPACK(")


def _start_client(lab: Lab, *options: str) -> subprocess.Popen[bytes]:
    program = ("udhcpc",) if find("udhcpc") else ("busybox", "udhcpc")
    return lab.client.start(*program, "-f", "-i", lab.device, "-s", str(SCRIPT), *options)


def renewal(lab: Lab) -> None:
    """Get a lease by broadcast and renew it by unicast: each is seen at the server."""
    _serve(lab)
    client = _start_client(lab, "-t", "5", "-T", "1")
    lab.check("a lease by broadcast", until(lambda: _acknowledged() == 1, within=5))
    address = str(lab.plan.cable.neighbour(4, LEASED).ip)
    until(lambda: address in lab.client.run("ip", "-4", "address", "show", lab.device).out, within=2)
    client.send_signal(signal.SIGUSR1)
    lab.check("a renewal", until(lambda: _acknowledged() >= 2, within=5))
    for name, worked in keep_carrying(lab).items():
        lab.check(name, worked)


def rogue_server(lab: Lab) -> None:
    """Take a lease from a server whose option 121 routes the whole Internet to itself (CVE-2024-3661)."""
    router = lab.router(4)
    _serve(lab, f"--dhcp-option-force=121,0.0.0.0/1,{router},128.0.0.0/1,{router}")
    _start_client(lab, "-O", "staticroutes", "-t", "5", "-T", "1")
    taken = until(lambda: "128.0.0.0/1" in lab.client.run("ip", "-4", "route").out, within=5)
    if not taken:
        raise SetUpError(f"the client did not take the routes: {LOG.read_text()[-300:]}")
    new_flows(lab)


SCENARIOS = (
    Scenario(
        "works-dhcp",
        "DHCP: a lease and its renewal",
        (77, 123),
        renewal,
        kind=Kind.WORKS,
        control=None,
        because="what was seen to work needs no control",
        needs=(Need.UDHCPC, Need.DNSMASQ, Need.REAL_ROOT),
        window=0.2,
    ),
    Scenario(
        "dhcp-rogue-server",
        "a real DHCP server's option 121 (CVE-2024-3661)",
        (78,),
        rogue_server,
        needs=(Need.UDHCPC, Need.DNSMASQ, Need.REAL_ROOT),
    ),
)
