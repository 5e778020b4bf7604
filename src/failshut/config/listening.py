"""Reads where the monitor serves its numbers, and the files that belong to it; as in `values`, only `Mistake` is raised."""

from __future__ import annotations

import tomllib
from ipaddress import ip_address
from pathlib import PurePosixPath

from failshut.config.mistake import Mistake, shown, string
from failshut.model.finding import Code
from failshut.model.policy import Metrics
from failshut.model.units import Listen

_SHAPE = 'write "127.0.0.1:9586", "[::1]:9586", or "unix:/run/failshut/metrics.socket"'
# sockaddr_un has room for 107 bytes and the zero behind them.
_LONGEST = 107


def listen(value: object) -> Listen:
    """Return where to listen: `ADDRESS:PORT`, `[ADDRESS]:PORT`, `unix:/PATH`."""
    text = string(value, "an address and a port")
    if text.startswith("unix:"):
        path = file(text.removeprefix("unix:"))
        if len(path.encode()) > _LONGEST:
            raise Mistake(Code.BAD_VALUE, f"{shown(path)} is too long for a socket", f"at most {_LONGEST} bytes")
        return Listen(path=path)
    host, colon, port = text.rpartition(":")
    is_port = bool(colon) and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    try:
        address = ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no address and port", _SHAPE) from None
    if not is_port or (address.version == 6) is not host.startswith("["):
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} is no address and port", _SHAPE)
    return Listen(address, int(port))


def file(value: object) -> str:
    """Return the path of a file, from the root."""
    text = string(value, "a file's path")
    if not text.startswith("/"):
        raise Mistake(Code.BAD_VALUE, f"{shown(text)} does not begin at the root", "write the whole path")
    return text


def textfile(value: object) -> str:
    """Return the path of a file for node_exporter, which reads those that end in .prom."""
    path = file(value)
    if PurePosixPath(path).suffix != ".prom":
        raise Mistake(Code.BAD_VALUE, f"{shown(path)} is passed over by node_exporter", "let its name end in .prom")
    return path


def parse_metrics(text: str) -> Metrics | None:
    """Read back what `emit.metrics` wrote; None for no settings. Raises ValueError for anything else."""
    table = tomllib.loads(text).get("metrics")
    if table is None:
        return None
    try:
        return Metrics(**{**table, "listen": tuple(map(listen, table["listen"]))})
    except (TypeError, KeyError) as error:
        raise ValueError(f"the settings are incomplete: {error}") from error
