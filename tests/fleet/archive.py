"""Where hosts get packages from: a web server on the lab's network, with a certificate of its own and repositories of apt's."""

from __future__ import annotations

import email.utils
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from failshut.drill.network.wait import until

if TYPE_CHECKING:
    from fleet.hosts import Fleet, Host

_SERVER = """
import functools, http.server, ssl, sys, threading
directory, certificate, address = sys.argv[1:]
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
plain = http.server.ThreadingHTTPServer((address, 8080), handler)
private = http.server.ThreadingHTTPServer((address, 443), handler)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate)
private.socket = context.wrap_socket(private.socket, server_side=True)
print("listening", flush=True)
threading.Thread(target=plain.serve_forever).start()
private.serve_forever()
"""
_CERTIFICATE = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=archive \
	-addext "subjectAltName=IP:$1" -keyout "$2.key" -out "$2" 2>/dev/null
cat "$2.key" "$2" > "$3"
"""
# In the room's /run: the agent's socket has a short name there, and the agent ends with the room.
_GPG = ("gpg", "--homedir=/run/gpg", "--batch", "--quiet", "--pinentry-mode=loopback", "--passphrase=")
# A package that is installed, as a file again: what of it was left out of the tree is not in it.
_REPACK = """
set -e
mkdir -p /tmp/repacked/DEBIAN
dpkg-query --listfiles "$1" | while read -r file; do if [ -f "$file" ]; then cp --parents "$file" /tmp/repacked; fi; done
dpkg-query --status "$1" | grep -v '^Status:' > /tmp/repacked/DEBIAN/control
dpkg-deb --build --root-owner-group -Znone /tmp/repacked "/opt/$1.deb"
dpkg --purge --force-depends "$1"
"""


class Archive:
    """A web server of the controller's; ends with the fleet's room."""

    def __init__(self, fleet: Fleet, address: str) -> None:
        self._room, self.directory = fleet.room, fleet.directory / "archive"
        self.http, self.https = f"http://{address}:8080", f"https://{address}"
        self.directory.mkdir()
        self.certificate, both = fleet.directory / "certificate.pem", fleet.directory / "certificate-and-key.pem"
        self._room.do("sh", "-ec", _CERTIFICATE, "sh", address, str(self.certificate), str(both))
        self._room.do("mkdir", "--mode=700", "/run/gpg")
        log = fleet.directory / "archive.log"
        self._room.start("python3", "-c", _SERVER, str(self.directory), str(both), address, net=fleet.controller, log=log)
        assert until(lambda: "listening" in log.read_text(), within=30, step=0.05), log.read_text()

    def trusted_by(self, host: Host) -> None:
        """Have a host trust the server's certificate."""
        host.write("/etc/ssl/certs/archive.pem", self.certificate.read_text())
        assert host.run("openssl", "rehash", "/etc/ssl/certs").ok

    def key(self, name: str) -> str:
        """Make a key that signs, and serve its public half; return that one's address."""
        self._room.do(*_GPG, "--quick-generate-key", name, "ed25519", "sign", "never")
        (self.directory / f"{name}.asc").write_text(self._room.do(*_GPG, "--armor", "--export", name))
        return f"{self.https}/{name}.asc"

    def serve(self, package: Path, name: str) -> str:
        """Serve a package's file; return its address."""
        (self.directory / name).write_bytes(package.read_bytes())
        return f"{self.https}/{name}"

    def publish(self, name: str, *packages: Path, key: str) -> str:
        """Write a repository anew, with these packages and no others, signed by a key; return its address."""
        where = self.directory / name
        where.mkdir(exist_ok=True)
        for each in packages:
            (where / each.name).write_bytes(each.read_bytes())
        listed = self._room.do("sh", "-ec", 'cd "$1" && dpkg-scanpackages --multiversion . 2>/dev/null', "sh", str(where))
        (where / "Packages").write_text(listed)
        now = email.utils.format_datetime(datetime.now(UTC), usegmt=True)
        total = f"{hashlib.sha256(listed.encode()).hexdigest()} {len(listed.encode())} Packages"
        release = f"Origin: {name}\nSuite: stable\nDate: {now}\nSHA256:\n {total}\n"
        (where / "InRelease").write_text(
            self._room.do(*_GPG, f"--local-user={key}", "--digest-algo=SHA512", "--clearsign", stdin=release)
        )
        return f"{self.http}/{name}"

    def take_from(self, host: Host, package: str) -> Path:
        """Take a package off a host, and return it as a file."""
        repacked = host.run("sh", "-c", _REPACK, "sh", package)
        assert repacked.ok, repacked.complaint
        self._room.do("cp", f"{host.disk}/opt/{package}.deb", f"{self.directory}.{package}.deb")
        return self.directory.with_name(f"archive.{package}.deb")
