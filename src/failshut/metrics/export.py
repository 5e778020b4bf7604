"""Samples as Prometheus reads them: once as text, or served over HTTP."""

from __future__ import annotations

import base64
import contextlib
import hmac
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from failshut.metrics.catalogue import METRICS, Kind
from failshut.metrics.samples import Sample
from failshut.model.policy import Metrics
from failshut.model.units import Listen

Read = Callable[[], Iterable[Sample]]

# In seconds: what was read a moment ago is what is. A reading runs nft, and anybody may ask.
_FRESH = 1.0
# So many are served at once, each so many seconds at most: who asks and says nothing must not keep others out, or the machine busy.
_MOST, _PATIENCE = 4, 10.0
# Whoever may look into its directory may ask, as on loopback.
_SOCKET_MODE = 0o666


class _Collector(Collector):
    def __init__(self, read: Read) -> None:
        self._read = read
        # Two scrapes at once need not both read.
        self._lock = threading.Lock()
        self._known: list[Sample] = []
        self._read_at = 0.0

    def collect(self) -> Iterator[Any]:
        with self._lock:
            if not self._known or time.monotonic() - self._read_at > _FRESH:
                self._known = list(self._read())
                self._read_at = time.monotonic()
            read = self._known
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


def protection(metrics: Metrics) -> Protection:
    """Return what the settings ask for. Raises OSError for a password that can't be read, ValueError for none in its file."""
    password = Path(metrics.password_file).read_text(encoding="utf-8").split("\n")[0] if metrics.password_file else ""
    if metrics.password_file and not password:
        raise ValueError(f"{metrics.password_file}: the first line is empty")
    certificate, key = (Path(each) if each else None for each in (metrics.certificate, metrics.key))
    return Protection(metrics.user, password, certificate, key)


class Server(ThreadingMixIn, WSGIServer):
    """Serves the numbers at one place; `fileno` is ready when somebody asks, and `answer` lets a thread answer."""

    daemon_threads = True
    # Whoever is stopped does not wait for those who ask.
    block_on_close = False

    def __init__(self, place: Listen, read: Read, asked: Protection) -> None:
        """Listen there. Raises OSError where that can't be, ssl.SSLError (an OSError) for a certificate that is none."""
        self.address_family = _family(place)
        self._open: dict[socket.socket, float] = {}
        self._place = place
        _make_way(place)
        super().__init__((str(place.address), place.port) if place.address else place.path, _Handler)  # type: ignore[arg-type]  # typeshed knows no unix socket
        # Whoever has gone before their turn must not keep us waiting.
        self.socket.setblocking(False)
        self.set_app(_guarded(make_wsgi_app(registry(read)), asked))
        if asked.certificate:
            try:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(asked.certificate, asked.key)
            except OSError:
                self.server_close()
                raise
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def server_bind(self) -> None:
        """Bind without asking a resolver for a name, as the library would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "failshut", 0 if self._place.path else self.server_address[1]
        self.setup_environ()
        if self._place.path:
            Path(self._place.path).chmod(_SOCKET_MODE)

    def server_close(self) -> None:
        """Listen no more; a socket's file goes."""
        super().server_close()
        if self._place.path:
            Path(self._place.path).unlink(missing_ok=True)

    def answer(self) -> None:
        """Answer whoever waits, in a thread; nobody may."""
        self._handle_request_noblock()  # type: ignore[attr-defined]  # socketserver's own step of serve_forever

    def get_request(self) -> tuple[Any, Any]:
        """Accept. At a socket in the file system nobody has an address."""
        request, address = super().get_request()
        request.settimeout(_PATIENCE)
        return request, address or ("local", 0)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the library's signature
        """Refuse those who are too many; whoever has had their time makes way."""
        now = time.monotonic()
        for other, since in tuple(self._open.items()):
            if now - since > _PATIENCE:
                with contextlib.suppress(OSError):
                    other.shutdown(socket.SHUT_RDWR)
        if len(self._open) >= _MOST:
            return False
        self._open[request] = now
        return True

    def shutdown_request(self, request: Any) -> None:
        """End it, and forget it."""
        self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep whoever went away, or speaks something else, out of the log."""


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's signature
        """Keep scrapes out of the log."""


def _family(place: Listen) -> socket.AddressFamily:
    if place.address is None:
        return socket.AF_UNIX
    return socket.AF_INET6 if place.address.version == 6 else socket.AF_INET


def _make_way(place: Listen) -> None:
    """Take away a socket that nobody listens at any more."""
    path = Path(place.path)
    if not place.path or not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(place.path)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)


def _guarded(app: Any, asked: Protection) -> Any:
    if not asked.password:
        return app
    wanted = base64.b64encode(f"{asked.user}:{asked.password}".encode()).decode()

    def ask(environ: dict[str, Any], start: Any) -> Any:
        given = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Basic ")
        if hmac.compare_digest(given.encode(), wanted.encode()):
            return app(environ, start)
        start("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="failshut"'), ("Content-Type", "text/plain")])
        return [b"say who you are\n"]

    return ask
