"""Peers come and go while the server runs: in its config, and in the kernel, without touching any other peer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from failshut.arming.undo import read_text, write
from failshut.host.files import PRIVATE_FILE, write_new
from failshut.host.run import run
from failshut.host.tunnels.wireguard import fresh_keys, public_key, running_tunnels
from failshut.model.exits import Exit
from failshut.model.plan import FileChange
from failshut.model.running import RunningPeer, RunningTunnel
from failshut.model.units import Address
from failshut.server import config
from failshut.server.errors import ServerError
from failshut.server.firewall import NAME
from failshut.server.model import Peer, Server
from failshut.server.places import CONFIG, INTERFACE, RULES
from failshut.server.plan import existing
from failshut.templates.make import Keys


@dataclass(frozen=True, slots=True)
class Added:
    """A new peer: its own config, where it was written (None: nowhere), and whether the running server knows it already."""

    name: str
    addresses: tuple[Address, ...]
    text: str = field(repr=False)
    path: Path | None = None
    live: bool = True


@dataclass(frozen=True, slots=True)
class Seen:
    """A peer of the config beside what the kernel knows of it; None while the server is down."""

    peer: Peer
    running: RunningPeer | None


def the_server() -> Server:
    """Return this machine's server. Raises `ServerError` without one."""
    found = existing()
    if found is None:
        raise ServerError(f"there is no server on this machine: {CONFIG} does not exist", "failshut server init")
    return found


def add(name: str, path: Path | None, undo: contextlib.ExitStack) -> Added:
    """Give a new peer the next free address, write its config to `path`, and tell the running server. Raises `ServerError`."""
    server = the_server()
    if server.peer(name):
        raise ServerError(
            f"there is a peer {name} already", f"failshut server remove-peer {name}, or another name", code=Exit.USAGE
        )
    number = server.free_number()
    if number is None:
        networks = ", ".join(map(str, server.networks))
        raise ServerError(f"every address of {networks} is taken", "remove a peer, or make the server anew with a wider --network")
    if path and (path.exists() or path.is_symlink()):
        raise ServerError(f"{path} is there already, and nothing is overwritten", "--output names another file")
    pair = Keys(*fresh_keys())
    text = config.client(name, pair, server, public_key(server.private), number)
    after = config.with_peer(read_text(CONFIG) or "", name, pair, server, number)
    _must_read(after)
    if path:
        _write_client(path, text, undo)
    write([FileChange(str(CONFIG), read_text(CONFIG), after, PRIVATE_FILE)], undo)
    addresses = server.addresses_of(number)
    return Added(name, addresses, text, path, _tell(pair, addresses, undo))


def _write_client(path: Path, text: str, undo: contextlib.ExitStack) -> None:
    try:
        write_new(path, text, mode=PRIVATE_FILE)
    except FileNotFoundError as error:
        raise ServerError(f"{path} can't be written: there is no such directory", "--output names another place") from error
    except OSError as error:
        raise ServerError(f"{path} can't be written: {(error.strerror or '').lower()}", "--output names another place") from error
    undo.callback(path.unlink, missing_ok=True)


def _tell(pair: Keys, addresses: tuple[Address, ...], undo: contextlib.ExitStack) -> bool:
    if INTERFACE not in running_tunnels():
        return False
    undo.callback(run, ["wg", "set", INTERFACE, "peer", pair.public, "remove"])
    allowed = ",".join(f"{each}/{each.max_prefixlen}" for each in addresses)
    words = ["wg", "set", INTERFACE, "peer", pair.public, "preshared-key", "/dev/stdin", "allowed-ips", allowed]
    told = run(words, stdin=pair.preshared, secret=True)
    if not told.ok:
        raise ServerError(f"the running {INTERFACE} does not take the peer: {told.complaint}")
    return True


def remove(name: str, undo: contextlib.ExitStack) -> Peer:
    """Take a peer out of the config, and out of the running server. Raises `ServerError`."""
    server = the_server()
    peer = server.peer(name)
    if peer is None:
        known = ", ".join(each.name for each in server.peers if each.name) or "none"
        raise ServerError(f"there is no peer {name}", f"there are: {known}", code=Exit.USAGE)
    text = read_text(CONFIG) or ""
    after = config.without_peer(text, peer)
    _must_read(after)
    write([FileChange(str(CONFIG), text, after, PRIVATE_FILE)], undo)
    if INTERFACE in running_tunnels():
        told = run(["wg", "set", INTERFACE, "peer", peer.public, "remove"])
        if not told.ok:
            raise ServerError(f"the running {INTERFACE} does not let the peer go: {told.complaint}")
    return peer


def _must_read(text: str) -> None:
    """Refuse to write what could not be read again."""
    found = config.read(text, str(CONFIG), INTERFACE)
    if isinstance(found, list):
        raise ServerError(f"{CONFIG} would have mistakes", findings=found)


def seen() -> tuple[Server, tuple[Seen, ...]]:
    """Return the server with its peers as they are now."""
    server = the_server()
    running = running_tunnels().get(INTERFACE)
    by_key = {each.key: each for each in running.peers} if running else {}
    return server, tuple(Seen(each, by_key.get(each.public)) for each in server.peers)


def friendly_names() -> dict[tuple[str, str], str]:
    """Return the names that the configs' comments give peers, by interface and public key; none where they can't be read."""
    found: dict[tuple[str, str], str] = {}
    with contextlib.suppress(OSError):
        for path in sorted(CONFIG.parent.glob("*.conf")):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found |= {(path.stem, key): name for key, name in config.names(path.read_text(encoding="utf-8")).items()}
    return found


def is_up(tunnels: Mapping[str, RunningTunnel]) -> bool | None:
    """Whether this machine's server has its tunnel and its firewall; None on a machine that is no server."""
    if not RULES.exists():
        return None
    return INTERFACE in tunnels and run(["nft", "list", "table", "inet", NAME]).ok
