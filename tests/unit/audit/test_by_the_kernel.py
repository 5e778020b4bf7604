"""The kernel as the judge: random rules are loaded, packets are sent, and both evaluators must say what became of them."""

from __future__ import annotations

import json
import random
import sys
from ipaddress import ip_address

import z3

from failshut.audit.concrete.evaluate import evaluate
from failshut.audit.netfilter.fields import IFNAME
from failshut.audit.netfilter.route import Way, routes
from failshut.audit.symbolic.formula import conj
from failshut.audit.symbolic.space import device_names
from failshut.audit.symbolic.ways import encode
from failshut.audit.world import World
from failshut.audit.world.told_apart import patterns
from failshut.read.nft.text import read_text

RULESETS, PACKETS = 50, 40
HOSTS = ("192.168.1.7", "192.168.1.9", "10.8.0.1", "198.51.100.80")
DEVICES = ("eth0", "!= eth0", '"w*"', "{ lo, wg0 }")
PORTS, MARKS, USERS = (53, 443, 1194, 51820), (0, 1, 2, 3, 0x10), (0, 1000)

# Sends every packet under every ruleset; a packet that a chain drops is refused to its sender.
SEND = """
import json, os, socket, subprocess, sys
def sh(*argv, stdin=None):
    subprocess.run(argv, input=stdin, text=True, check=True)
for name, address in (("eth0", "192.168.1.100/24"), ("wg0", "10.8.0.2/24")):
    subprocess.run(("ip", "link", "del", name), capture_output=True)
    sh("ip", "link", "add", name, "type", "bridge")
    sh("ip", "address", "add", address, "dev", name)
    sh("ip", "link", "set", name, "up")
sh("ip", "route", "add", "default", "via", "192.168.1.1", "dev", "eth0")
def passes(packet):
    os.seteuid(packet["uid"])
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    os.seteuid(0)
    try:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, packet["mark"])
        sender.bind(("0.0.0.0", packet["sport"]))
        sender.sendto(b"x", (packet["host"], packet["dport"]))
    except PermissionError:
        return False
    finally:
        sender.close()
    return True
out = []
for case in json.load(sys.stdin):
    sh("nft", "-f", "-", stdin="flush ruleset\\n" + case["rules"])
    out.append([passes(each) for each in case["packets"]])
print(json.dumps(out))
"""


def match(dice: random.Random) -> str:
    return dice.choice(
        (
            f"ip daddr {dice.choice(HOSTS)}",
            f"ip daddr != {{ {HOSTS[0]}, 10.8.0.0/16 }}",
            f"ip daddr . udp dport {{ 192.168.1.0/24 . {dice.choice(PORTS)}, {dice.choice(HOSTS)} . 1-1000 }}",
            f"udp dport {dice.choice(('< 1000', '!= 53', '{ 53, 1194 }', '50-500'))}",
            f"tcp dport != {dice.choice(PORTS)}",
            f"meta mark {dice.choice(('1', '!= 2', '& 0x3 == 0x2', '^ 0x1 < 0x3', '{ 0, 3 }'))}",
            f"meta skuid {dice.choice(('0', '!= 0', '< 1000'))}",
            f"oifname {dice.choice(DEVICES)}",
            f"iifname {dice.choice(('!= eth0', 'eth0'))}",
            f"ct state {dice.choice(('new', 'established,related', '! established', '{ new, related }'))}",
            f"ct mark {dice.choice(('0', '!= 0', '1'))}",
            f"ct direction {dice.choice(('original', 'reply'))}",
            "meta length < 100",
        )
    )


def rule(dice: random.Random, targets: tuple[str, ...]) -> str:
    writes = ("meta mark set 1", "meta mark set meta mark & 0xfe | 0x2", "ct mark set meta mark", "meta mark set ct mark")
    vmap = f"udp dport vmap {{ 53 : drop, 443 : {dice.choice(('accept', 'return', 'continue'))} }}"
    ends = (
        "accept",
        "accept",
        "accept",
        "drop",
        "return",
        "counter",
        vmap,
        *(f"{how} {each}" for each in targets for how in ("jump", "goto")),
    )
    parts = [match(dice) for _ in range(dice.choice((1, 1, 2)))]
    parts += [dice.choice(writes)] if dice.random() < 0.3 else []
    text = " ".join([*parts, dice.choice(ends)])
    # nft refuses what no packet can be: two protocols at once.
    clash = ("tcp dport" in text and ("udp dport" in text)) or ("ip6 daddr" in text)
    return rule(dice, targets) if clash else text


def ruleset(dice: random.Random) -> str:
    text = ""
    for table in ("inet one", "ip two"):
        body = [f"chain leaf {{ {'; '.join(rule(dice, ()) for _ in range(2))}; }}"]
        body.append(f"chain middle {{ {'; '.join(rule(dice, ('leaf',)) for _ in range(2))}; }}")
        for number, (kind, hook) in enumerate((("filter", "output"), ("route", "output"), ("filter", "postrouting"))):
            # No two chains at one priority: the order would be the kernel's secret.
            priority = dice.choice((-320, -160, -10, 0, 40)) + 2 * number + (table == "ip two")
            rules = "; ".join(rule(dice, ("leaf", "middle")) for _ in range(dice.randrange(1, 4)))
            policy = dice.choice(("accept",) * 7 + ("drop",))
            body.append(f"chain {kind}{hook} {{ type {kind} hook {hook} priority {priority}; policy {policy}; {rules}; }}")
        text += f"table {table} {{\n" + "\n".join(body) + "\n}\n"
    return text


def as_fields(packet: dict[str, object]) -> dict[str, int | str]:
    device = "wg0" if str(packet["host"]).startswith("10.8.") else "eth0"
    own = "10.8.0.2" if device == "wg0" else "192.168.1.100"
    names = {"oifname": device, "oifname rerouted": device, "via": "", "iifname": ""}
    numbers = {"ip daddr": int(ip_address(str(packet["host"]))), "ip saddr": int(ip_address(own)), "l4proto": 17, "ct state": 8}
    numbers |= {"dport": packet["dport"], "sport": packet["sport"], "mark": packet["mark"], "skuid": packet["uid"]}
    # Before the connection is looked up there is none: nft calls that invalid.
    return {**names, **numbers, "socket": 1, "first": 1, "length": 29, "ct mark": 0, "ct direction": 0, "early ct state": 1}


def formulas_say(encoding, fields) -> bool:
    """Whether the formulas, with every variable said, let the packet pass."""
    space = encoding.space
    values = []
    for name, (variable, kind) in space.variables.items():
        value = fields.get(name, "" if kind == IFNAME else 0)
        values.append((variable, z3.BitVecVal(space.names.index(value) if kind == IFNAME else value, variable.size())))
    goal = conj([encoding.leaves, True])
    return goal if isinstance(goal, bool) else z3.is_true(z3.simplify(z3.substitute(goal, *values)))


def test_the_kernel_does_with_packets_what_both_evaluators_say(sandbox):
    """A thousand packets under random rules: passed or refused by the kernel exactly as the concrete run and the formulas say."""
    dice = random.Random(20)  # noqa: S311 - the same rules every time
    cases = []
    for number in range(RULESETS):
        sport = iter(range(2000 + number * PACKETS, 60_000))
        packets = [
            {
                "host": dice.choice(HOSTS),
                "dport": dice.choice(PORTS),
                "mark": dice.choice(MARKS),
                "uid": dice.choice(USERS),
                "sport": next(sport),
            }
            for _ in range(PACKETS)
        ]
        cases.append({"rules": ruleset(dice), "packets": packets})

    done = sandbox.run(sys.executable, "-c", SEND, stdin=json.dumps(cases))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    wrong = []
    for case, passed in zip(cases, seen, strict=True):
        reading = read_text(case["rules"], "random")
        assert reading.is_whole
        assert not reading.approximations
        (route,) = routes(reading.ruleset, Way.OUTPUT, 4)
        encoding = encode(route, device_names(patterns(reading.ruleset, World(underlay=("eth0", "wg0")))))
        for packet, did in zip(case["packets"], passed, strict=True):
            fields = as_fields(packet)
            if not evaluate(route, fields).leaves is did is formulas_say(encoding, fields):
                wrong.append((case["rules"], packet, did))
    passing = sum(sum(each) for each in seen)

    assert wrong == []
    assert RULESETS * PACKETS * 0.1 < passing < RULESETS * PACKETS * 0.9, "the control: some pass, some don't"
