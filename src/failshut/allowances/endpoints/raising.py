"""Brings up a tunnel whose config names its endpoint by a name: wg-quick finds the pinned address in a hosts file of its own."""

from __future__ import annotations

from pathlib import Path

from failshut.arming.errors import ArmingError
from failshut.boot.places import RUN_DIRECTORY
from failshut.host.files import write_atomically
from failshut.host.network.links import is_up
from failshut.host.run import run
from failshut.host.tunnels.wireguard import running_tunnels
from failshut.model.pin import Pin
from failshut.model.policy import Policy, Tunnel, TunnelKind

HOSTS, OWN_HOSTS = Path("/etc/hosts"), RUN_DIRECTORY / "hosts"
# The C library reads the hosts file before it asks anyone (nsswitch.conf: `files` comes first).
_PRIVATELY = 'mount --bind "$0" /etc/hosts && exec wg-quick up "$1"'


def raise_tunnel(policy: Policy, tunnel: Tunnel) -> bool:
    """Bring a tunnel up that is down; return whether there was anything to do. Raises `ArmingError` when it can't be done."""
    name = str(tunnel.interface)
    if name in running_tunnels():
        return False
    if tunnel.kind is not TunnelKind.WG_QUICK:
        if is_up(name):
            return False
        remedy = "start it by its own tool; the names of its servers belong into /etc/hosts (`failshut check` shows the lines)"
        raise ArmingError(f"{name} is brought up by {tunnel.kind}, not by wg-quick", help=remedy)
    try:
        before = HOSTS.read_text(encoding="utf-8", errors="surrogateescape") if HOSTS.exists() else ""
        write_atomically(OWN_HOSTS, hosts_text(before, policy.pins))
    except OSError as error:
        raise ArmingError(f"{OWN_HOSTS} can't be written: {error.strerror}") from error
    argv = ["unshare", "--mount", "--propagation", "slave", "--", "sh", "-c", _PRIVATELY, str(OWN_HOSTS), tunnel.config or name]
    result = run(argv, timeout=60)
    if not result.ok:
        raise ArmingError(f"{name} does not come up: {result.complaint}")
    return True


def hosts_text(before: str, pins: tuple[Pin, ...]) -> str:
    """Return a hosts file (hosts(5)) with a line for every pinned address."""
    lines = [f"{address} {pin.host}\n" for pin in pins for address in pin.addresses]
    return "".join((before.rstrip("\n") + "\n" if before else "", *lines))
