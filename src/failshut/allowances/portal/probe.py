"""The probe, a program of its own in the sign-in's control group: `python -m failshut.allowances.portal.probe URL RESOLVER…`.

Asks the resolvers for the page's host, gets the page, and prints what it saw as JSON (`verdict.Seen`). It uses nothing of the
machine's own name service: that is inside.
"""

from __future__ import annotations

import contextlib
import http.client
import secrets
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from failshut.allowances.portal.dns import answers
from failshut.allowances.portal.verdict import Seen
from failshut.emit.dns import AAAA, A, question
from failshut.model.units import Address

# In seconds, for one question and for one page.
_DNS_PATIENCE, _HTTP_PATIENCE = 2.0, 5.0
_ATTEMPTS = 2
_DNS_PORT = 53


def look(url: str, resolvers: Sequence[Address]) -> Seen:
    """Get a page by these resolvers and return what came; never raises for a network that refuses."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    found = _addresses(host, resolvers)
    last = Seen(error=f"no resolver answered for {host}")
    for address in found:
        last = _get(address, parts.port or 80, host, parts.path or "/")
        if last.status:
            break
    return last


def _addresses(host: str, resolvers: Sequence[Address]) -> tuple[Address, ...]:
    with contextlib.suppress(ValueError):
        return (ip_address(host),)
    for _ in range(_ATTEMPTS):
        for resolver in resolvers:
            found = _ask(resolver, host, A)
            # Who is silent once is not asked again in this round.
            more = _ask(resolver, host, AAAA) if found is not None else None
            if found or more:
                return (*(found or ()), *(more or ()))
    return ()


def _ask(resolver: Address, host: str, kind: int) -> tuple[Address, ...] | None:
    """Return what a resolver answers; None for no answer."""
    number = secrets.randbelow(1 << 16)
    family = socket.AF_INET if resolver.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_DNS_PATIENCE)
        try:
            sock.connect((str(resolver), _DNS_PORT))
            sock.send(question(number, host, kind))
            return answers(sock.recv(4096), number)
        except (OSError, ValueError):
            return None


def _get(address: Address, port: int, host: str, path: str) -> Seen:
    connection = http.client.HTTPConnection(str(address), port, timeout=_HTTP_PATIENCE)
    try:
        connection.request("GET", path, headers={"Host": host, "Connection": "close", "Cache-Control": "no-cache"})
        response = connection.getresponse()
        location = response.getheader("Location") or ""
        return Seen(str(address), response.status, location[:2048], bool(response.read(1)))
    except (OSError, http.client.HTTPException) as error:
        return Seen(str(address), error=str(error) or type(error).__name__)
    finally:
        connection.close()


if __name__ == "__main__":
    sys.stdout.write(look(sys.argv[1], [ip_address(each) for each in sys.argv[2:]]).to_json())
