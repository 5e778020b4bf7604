"""What every WireGuard of the lab is made of: keys, a device, a place for configurations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from failshut.drill.network.netns import Namespace
from failshut.host.tunnels import wireguard

# /run is a private tmpfs.
CONFIGS = Path("/run/failshut-drill")


@dataclass(frozen=True, slots=True)
class Keys:
    """A WireGuard key pair, base64, of this lab only."""

    private: str
    public: str


def fresh_keys() -> Keys:
    """Return a new key pair by wg(8)."""
    private, public, _ = wireguard.fresh_keys()
    return Keys(private, public)


def create_device(host: Namespace, name: str) -> None:
    """Make a WireGuard device: the kernel's if it has one, else wireguard-go."""
    if not host.run("ip", "link", "add", name, "type", "wireguard").ok:
        host.do("wireguard-go", name)
