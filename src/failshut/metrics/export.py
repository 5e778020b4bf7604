"""Samples as Prometheus reads them: once as text, or served over HTTP."""

from __future__ import annotations

import base64
import hmac
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from failshut.metrics.catalogue import METRICS, Kind
from failshut.metrics.samples import Sample

Read = Callable[[], Iterable[Sample]]


class _Collector(Collector):
    def __init__(self, read: Read) -> None:
        self._read = read
        # A reading runs nft; two scrapes at once need not.
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Any]:
        with self._lock:
            read = list(self._read())
        for metric in METRICS:
            own = [each for each in read if each.metric is metric]
            if not own:
                continue
            family = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
            made = family(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
            for each in own:
                made.add_metric(list(each.labels), each.value)
            yield made


@dataclass(frozen=True, slots=True)
class Protection:
    """What an exporter that others can reach asks for: a user's password, and a certificate with its key."""

    user: str = ""
    password: str = ""
    certificate: Path | None = None
    key: Path | None = None


def registry(read: Read) -> CollectorRegistry:
    """Return a registry that reads at every scrape."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Collector(read))
    return made


def as_text(read: Read) -> str:
    """Return the metrics as text, for node_exporter's textfile collector."""
    return generate_latest(registry(read)).decode()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's signature
        """Keep scrapes out of the log."""


def serve(read: Read, host: str, port: int, protection: Protection) -> _Server:
    """Return a server at an address and a port, 0 for any free one; `serve_forever` runs it. Raises OSError where it can't be."""
    app = make_wsgi_app(registry(read))
    family = _Server6 if ":" in host else _Server
    server = make_server(host, port, _guarded(app, protection), server_class=family, handler_class=_Quiet)
    if protection.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(protection.certificate, protection.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def _guarded(app: Any, protection: Protection) -> Any:
    if not protection.password:
        return app
    wanted = base64.b64encode(f"{protection.user}:{protection.password}".encode()).decode()

    def ask(environ: dict[str, Any], start: Any) -> Any:
        given = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Basic ")
        if hmac.compare_digest(given.encode(), wanted.encode()):
            return app(environ, start)
        start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="failshut"'), ("Content-Type", "text/plain")])
        return [b"say who you are\n"]

    return ask
