"""Asks for a name's addresses: through the tunnel by the system's resolver, or by one query over TLS from our own marked socket."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

import dns.exception
import dns.message
import dns.query
import dns.rdataclass
import dns.rdatatype

from failshut.allowances.endpoints.decide import MOST_CANDIDATES
from failshut.host.filter.elements import NotTakenError, probed
from failshut.host.sources import lookup
from failshut.model.policy import Resolver
from failshut.model.timed import PROBED
from failshut.model.units import Address, Endpoint, Mark, Protocol

# In seconds: less than the kernel lets our socket reach a resolver.
_PATIENCE = 8.0
# Queries of one length (RFC 8467): the resolver's name is seen by the network, the server's is not.
_PADDING = 128

Answers = dict[str, tuple[Address, ...]]


class UnansweredError(Exception):
    """No resolver answered; the message says why not, for each."""


def through_tunnel(hosts: Iterable[str]) -> Answers:
    """Ask the system's resolver, while the tunnel carries the question; a name without an answer is left out."""
    return {host: found for host, found in lookup(hosts).items() if isinstance(found, tuple)}


def over_tls(hosts: Iterable[str], resolvers: Iterable[Resolver], mark: Mark) -> Answers:
    """Ask the first of `resolvers` that answers, past the tunnel. Raises `UnansweredError`.

    Each name costs two queries (A and AAAA) on one connection. The lock is opened for that connection's mark, user, address,
    protocol and port alone, and the kernel shuts it `PROBED` seconds later at the latest.
    """
    hosts, why = tuple(hosts), []
    for resolver in resolvers:
        try:
            with probed(Endpoint(resolver.address, resolver.port, Protocol.TCP), seconds=PROBED):
                return _ask(hosts, resolver, mark)
        except NotTakenError as error:
            raise UnansweredError(f"the lock does not let the query out: {error}") from error
        except ssl.SSLCertVerificationError as error:
            why.append(f"{resolver}: its certificate is not right: {error.verify_message}")
        except (OSError, dns.exception.DNSException, EOFError) as error:
            why.append(f"{resolver}: {error or type(error).__name__}")
    raise UnansweredError("; ".join(why))


def _ask(hosts: Iterable[str], resolver: Resolver, mark: Mark) -> Answers:
    end = time.time() + _PATIENCE
    with _connected(resolver, mark) as sock:
        return {host: tuple(_addresses(sock, host, end))[:MOST_CANDIDATES] for host in hosts}


def _connected(resolver: Resolver, mark: Mark) -> ssl.SSLSocket:
    sock = socket.socket(socket.AF_INET if resolver.address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        # As bytes: half of all marks are too large for setsockopt's signed number.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(mark).to_bytes(4, sys.byteorder))
        # Reset when it is closed: nothing of it is sent again after the lock is shut.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.settimeout(_PATIENCE / 2)
        sock.connect((str(resolver.address), int(resolver.port)))
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context.wrap_socket(sock, server_hostname=resolver.name)
    except BaseException:
        sock.close()
        raise


def _addresses(sock: ssl.SSLSocket, host: str, end: float) -> Iterator[Address]:
    for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        query = dns.message.make_query(host, kind, use_edns=0, pad=_PADDING)
        dns.query.send_tcp(sock, query, expiration=end)
        response, _ = dns.query.receive_tcp(sock, expiration=end)
        if not query.is_response(response):
            raise dns.query.BadResponse
        yield from addresses_in(response)


def addresses_in(response: dns.message.Message) -> Iterator[Address]:
    """Yield the addresses of an answer, at the end of its aliases; none for a name that has none of this kind."""
    if not isinstance(response, dns.message.QueryMessage):
        raise dns.query.BadResponse
    found = response.resolve_chaining().answer
    yield from (ip_address(each.address) for each in found or ())
