"""Certificates of one lab only: an authority, a server and a client, by openssl. Nothing of them outlives it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from failshut.drill.network.netns import must
from failshut.host.run import run

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = ("-days", "2")
NAMES = ("server", "client")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, in PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority's certificate, and who it vouches for."""

    certificate: str
    server: Identity
    client: Identity


def fresh_authority() -> Authority:
    """Return a new authority with a server and a client."""
    with TemporaryDirectory() as name:
        place = Path(name)
        _openssl(place, "req", "-x509", *_KEY, *_DAYS, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=lab")
        for each in NAMES:
            _openssl(place, "req", *_KEY, "-keyout", f"{each}.key", "-out", f"{each}.csr", "-subj", f"/CN={each}")
            signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", *_DAYS, "-out", f"{each}.crt")
            _openssl(place, "x509", "-req", "-in", f"{each}.csr", *signed)
        server, client = (Identity((place / f"{each}.crt").read_text(), (place / f"{each}.key").read_text()) for each in NAMES)
        return Authority((place / "ca.crt").read_text(), server, client)


def inline(authority: Authority, who: Identity) -> str:
    """Return the blocks of an OpenVPN config that say who `who` is."""
    parts = (("ca", authority.certificate), ("cert", who.certificate), ("key", who.key))
    return "".join(f"<{name}>\n{text.strip()}\n</{name}>\n" for name, text in parts)


def _openssl(place: Path, *words: str) -> None:
    must(run(("openssl", *words), directory=str(place)))
