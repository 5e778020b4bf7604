"""A machine whose tunnel's server moves: a resolver in the clear and over TLS, liars, and what left by the cable."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Self

from connected import SERVER, Connected
from failshut.drill.network.wait import until

NAME, RESOLVER, RESOLVER_NAME = "vpn.example.com", "203.0.113.53", "dns.lab.test"
MOVED, LIAR, LAN_HOST = "203.0.113.20", "203.0.113.77", "192.168.50.7"
BY_NAME = f"""\
[tunnel.wg0]
config = "/etc/wireguard/wg0.conf"
endpoints = ["{NAME}:51820"]

[allow.lan]
prefixes = ["192.168.50.0/24"]

[endpoint]
resolvers = ["{RESOLVER}#{RESOLVER_NAME}"]
"""
_TRUST = "/etc/failshut-lab.pem"

# Answers by UDP, and over TLS, what stands in /run/zone, after the seconds in /run/delay; answers at a liar's port with noise.
_RESOLVER = f"""
import json, pathlib, socket, ssl, threading, time
import dns.message, dns.query, dns.rrset, dns.rdatatype
def answer(query):
    question = query.question[0]
    response = dns.message.make_response(query)
    zone = json.loads(pathlib.Path("/run/zone").read_text())
    wanted = 4 if question.rdtype == dns.rdatatype.A else 6
    found = [each for each in zone.get(question.name.to_text(omit_final_dot=True), []) if (":" in each) == (wanted == 6)]
    if found:
        response.answer.append(dns.rrset.from_text(question.name, 60, "IN", question.rdtype, *found))
    return response
def clear():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 53))
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(answer(dns.message.from_wire(data)).to_wire(), peer)
def noise():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 5555))
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(bytes([2, 0, 0, 0]) + data[4:92].ljust(88, b"x"), peer)
def serve(raw):
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("/run/certificate", "/run/key")
        sock = context.wrap_socket(raw, server_side=True)
        while True:
            query, _ = dns.query.receive_tcp(sock)
            time.sleep(float(pathlib.Path("/run/delay").read_text()))
            dns.query.send_tcp(sock, answer(query))
    except Exception:
        raw.close()
listening = socket.create_server(("{RESOLVER}", 853))
for each in (clear, noise):
    threading.Thread(target=each, daemon=True).start()
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""
_REDIRECT = f"""
table ip liar {{
    chain prerouting {{
        type nat hook prerouting priority -100;
        ip daddr {{ {LIAR}, {LAN_HOST} }} udp dport 51820 redirect to :5555
    }}
}}
"""


class Moving(Connected):
    """A connected machine, armed with a tunnel whose endpoint is a name."""

    def __enter__(self) -> Self:
        super().__enter__()
        for each in (RESOLVER, LIAR, LAN_HOST):
            self.server("ip", "addr", "add", f"{each}/32", "dev", "cable")
        self.server("nft", "-f", "-", stdin=_REDIRECT)
        self.certify(RESOLVER_NAME)
        self.zone(SERVER)
        self.delay(0)
        self._resolver = self.at_server(sys.executable, "-c", _RESOLVER)
        if self._resolver.stdout.readline() != "listening\n":
            raise RuntimeError("the resolver does not listen")
        self.write("/etc/resolv.conf", "nameserver 192.168.50.1\n")
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._resolver.communicate()

    def certify(self, name: str, *, trusted: bool = True) -> None:
        """Give the resolver a new certificate for `name`, which the machine trusts or does not."""
        make = (
            "cd /run && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            f"-keyout key -out certificate -subj /CN=lab -addext subjectAltName=DNS:{name} 2>/dev/null && cat certificate"
        )
        text = self.server("sh", "-c", make)
        if trusted:
            self.write(_TRUST, text)

    def zone(self, *addresses: str) -> None:
        """Have the resolvers say that the server is there."""
        self.server("sh", "-c", "cat >/run/zone.new && mv /run/zone.new /run/zone", stdin=json.dumps({NAME: addresses}))

    def delay(self, seconds: float) -> None:
        """Have the resolver over TLS think about each answer."""
        self.server("sh", "-c", f"echo {seconds} >/run/delay")

    def arm(self, policy: str = BY_NAME, **options: str) -> None:
        """Bring the tunnel up and arm."""
        self.adopt_tunnel(policy, **options)
        self.must(sys.executable, "-m", "failshut", "arm")
        assert self.carries()

    def move(self, start: str = SERVER, to: str = MOVED) -> None:
        """Move the server, and let the tunnel forget that it ever worked."""
        self.server("ip", "addr", "add", f"{to}/32", "dev", "cable")
        self.server("ip", "addr", "del", f"{start}/32", "dev", "cable")
        self.restart()

    def restart(self) -> None:
        """Take the tunnel down and up: it has no handshake then."""
        self.must("wg-quick", "down", "wg0")
        self.must("wg-quick", "up", "wg0")

    def refresh(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run it, and trust the lab's certificate."""
        return self.failshut("refresh", *options, env={"SSL_CERT_FILE": _TRUST})

    def refreshing(self) -> subprocess.Popen[str]:
        """Start it and leave it running."""
        return self.start("env", f"SSL_CERT_FILE={_TRUST}", sys.executable, "-m", "failshut", "refresh")

    def pins(self) -> list[str]:
        """Return what the name is pinned to."""
        (pin,) = json.loads(self.read("/etc/failshut/armed/current/armed.json"))["pins"]
        assert pin["host"] == NAME
        return pin["addresses"]

    def endpoint(self) -> str:
        """Return where the running tunnel's peer is."""
        return self.must("wg", "show", "wg0", "endpoints").split()[-1]

    def elements(self, *names: str) -> str:
        """Return the elements of the lock's sets."""
        return "".join(
            re.findall(r"elements = \{[^}]*\}", "".join(self.must("nft", "list", "set", "inet", "failshut", n) for n in names))
        )

    def is_shut(self, within: float = 40) -> bool:
        """Whether nothing is on probation any more, and no probe open."""
        return until(lambda: not self.elements("candidates4", "candidates6", "probe4", "probe6"), within=within, step=0.2)

    def mark(self) -> int:
        """Return the mark of our own probes, as the kernel has it."""
        return int(re.search(r"meta mark (0x\w+) .*comment \"probe\"", self.must("nft", "list", "ruleset"))[1], 16)

    @contextlib.contextmanager
    def watched(self) -> Iterator[set[tuple[str, str, int]]]:
        """Gather what arrives at the cable's other end, as (protocol, address, port)."""
        seen: set[tuple[str, str, int]] = set()
        self.server("sh", "-c", ":>/run/said")
        process = self.at_server("sh", "-c", "exec tcpdump -nn -q --immediate-mode -l -Q in -i cable 'ip or ip6' 2>/run/said")
        assert until(lambda: "listening" in self.server("cat", "/run/said"), within=20), self.server("cat", "/run/said")
        try:
            yield seen
        finally:
            process.send_signal(signal.SIGINT)
            lines, _ = process.communicate()
            for line in filter(None, lines.splitlines()):
                found = re.search(r"> ([0-9a-f.:]+)\.(\d+): (UDP|tcp)", line)
                if found:
                    seen.add((found[3].lower(), found[1], int(found[2])))
                elif "ICMP6, neighbor" not in line and "ICMP6, router" not in line and "multicast listener" not in line:
                    seen.add((line, "", 0))
