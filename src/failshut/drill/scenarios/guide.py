"""The guide's own three tests, and what a tunnel that goes away takes with it."""

from __future__ import annotations

from failshut.drill.lab import Lab
from failshut.drill.network import traffic
from failshut.drill.network.tunnel import WG_QUICK
from failshut.drill.network.wait import until
from failshut.drill.scenario import Scenario


def tunnel_down(lab: Lab) -> None:
    """Have wg-quick take the tunnel away under running programs."""
    lab.tunnel.down()


def process_killed(lab: Lab) -> None:
    """Kill the WireGuard process, and its link; the rules and routes are what they left behind."""
    lab.tunnel.kill()
    lab.client.try_batch(f"link delete {lab.tunnel.device}")


def dns_after_down(lab: Lab) -> None:
    """Look names up at a public resolver with the tunnel down."""
    lab.tunnel.down()
    target = lab.target("resolver")
    lab.traffic.add([traffic.dns_lookups(target.of(version)) for version in (4, 6)])
    lab.traffic.add([traffic.tcp_upload(target.of(version), 53) for version in (4, 6)])


def broken_config(lab: Lab) -> None:
    """Break the tunnel's configuration and restart it: it fails on the way up, and stays down."""
    config = lab.wireguard.config
    lab.tunnel.down()
    text = config.read_text()
    config.write_text(text.replace("AllowedIPs = 0.0.0.0/0", "AllowedIPs = 0.0.0.0/0, nonsense"))
    lab.check("wg-quick fails", not lab.client.run("wg-quick", "up", str(config), timeout=WG_QUICK).ok)
    target = lab.target("new flows")
    lab.traffic.add([traffic.udp_connected(target.of(version)) for version in (4, 6)])


def keep_carrying(lab: Lab, *, within: float = 15) -> dict[str, bool]:
    """Return, by flow, whether more of the background traffic reaches the server through the tunnel than before."""
    before = lab.carried()
    until(lambda: all(now > before[name] for name, now in lab.carried().items()), within=within)
    return {f"{name} through the tunnel": now > before[name] for name, now in lab.carried().items()}


SCENARIOS = (
    Scenario("guide-1", "the tunnel is taken down (wg-quick down)", (1, 2, 59), tunnel_down),
    Scenario("guide-2", "the WireGuard process is killed and its link deleted", (58, 56), process_killed),
    Scenario("broken-config", "the tunnel fails on its way up", (14,), broken_config),
    Scenario("guide-3", "DNS to a public resolver with the tunnel down", (8, 88), dns_after_down),
)
