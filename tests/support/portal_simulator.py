"""A captive portal: a program at the router. Its resolver names itself for everything, its web server leads to a page to sign in.

`portal_simulator.py ADDRESS` keeps WireGuard out (by a table of nft's) until somebody posts to /login; with `open` behind it the
network has no portal.
"""

from __future__ import annotations

import http.server
import socket
import struct
import subprocess
import sys
import threading

TABLE = "table inet portal { chain input { type filter hook input priority 0; udp dport 51820 drop; }; }"
signed_in = threading.Event()


def answer(query: bytes, address: str) -> bytes:
    """Answer a question for an IPv4 address with ours, any other with nothing."""
    end = query.index(b"\0", 12) + 5
    kind = struct.unpack_from("!H", query, end - 4)[0]
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton(address) if kind == 1 else b""
    return query[:2] + struct.pack("!5H", 0x8180, 1, bool(record), 0, 0) + query[12:end] + record


def resolve(sock: socket.socket, address: str) -> None:
    while True:
        query, peer = sock.recvfrom(4096)
        sock.sendto(answer(query, address), peer)


class Page(http.server.BaseHTTPRequestHandler):
    """Every page leads to the one to sign in."""

    def do_GET(self) -> None:
        """Lead to the page; once somebody has signed in, be the page that was asked for."""
        if signed_in.is_set():
            self._reply(204)
        elif self.path == "/login":
            self._reply(200, b"<form method=post action=/login><input name=room></form>")
        else:
            self._reply(302, location=f"http://{self.server.server_address[0]}/login")

    def do_POST(self) -> None:
        """Sign in."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        subprocess.run(["nft", "delete", "table", "inet", "portal"], check=False)
        signed_in.set()
        self._reply(200, b"You are connected.")

    def _reply(self, status: int, body: bytes = b"", location: str = "") -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(address: str, *words: str) -> None:
    if "open" in words:
        signed_in.set()
    else:
        subprocess.run(["nft", TABLE], check=True)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 53))
    threading.Thread(target=resolve, args=(sock, address), daemon=True).start()
    server = http.server.ThreadingHTTPServer((address, 80), Page)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
