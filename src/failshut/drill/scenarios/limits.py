"""What the lock alone can't hold, tried all the same: said by the drill, with packets, and never passed over in silence."""

from __future__ import annotations

from functools import partial

from failshut.drill.attacker import senders
from failshut.drill.attacker.senders import own_udp_frame
from failshut.drill.lab import Lab
from failshut.drill.scenario import Need, Scenario
from failshut.drill.scenarios.endpoint import CAP_NET_RAW, SOMEBODY
from failshut.drill.scenarios.routing import lose_rules, new_flows, plug_in
from failshut.model.units import Address

MONITOR = "another tool with root removed the lock; in the lab no guard and no monitor run to put it back"
FORGED = "whoever knows the machine's stamp, may set marks and open packet sockets on the machine itself can forge it"


def foreign_flush(lab: Lab) -> None:
    """Let another tool run `nft flush ruleset`, as Debian's nftables.service does at each start and stop."""
    lab.client.do("nft", "flush", "ruleset")
    lose_rules(lab)
    new_flows(lab)


def accept_at_the_head(lab: Lab) -> None:
    """Let another tool insert an accept at the head of the lock's own chains."""
    for words in ("inet failshut postrouting", "inet failshut output", f"netdev failshut egress-{lab.device}"):
        lab.client.run("nft", "insert", "rule", *words.split(), "accept")
    lose_rules(lab)
    new_flows(lab)


def forged_stamp(lab: Lab) -> None:
    """Send frames by AF_PACKET with the lock's stamp, known beforehand: as root, and as a user with CAP_NET_RAW alone."""
    for name, uid, keep in (("root", 0, ()), ("uid 1000 with CAP_NET_RAW", SOMEBODY, (CAP_NET_RAW,))):
        target = lab.target(name).v4
        with lab.client.inside():
            said = senders.as_user(
                uid, partial(senders.marked_frame, lab.device, int(lab.stamp), own_udp_frame(lab, target)), keep=keep
            )
        if said != "sent":
            lab.give_up(name, said)
        lab.extra_sent += senders.TRIES


def frames_on_a_new_device(lab: Lab) -> None:
    """Plug in a new device and send frames on it, under IP, before anybody has armed it."""
    device, _ = plug_in(lab)
    lab.client.batch(f"link set {device} up")
    target: Address = lab.target("AF_PACKET on the new device").v4
    lab.extra_sent += senders.frames(lab.client, device, [own_udp_frame(lab, target)])


SCENARIOS = (
    Scenario("foreign-flush", "another tool flushes the ruleset", (94,), foreign_flush, limit=MONITOR),
    Scenario("accept-at-the-head", "another tool edits the lock's own table", (102,), accept_at_the_head, limit=MONITOR),
    Scenario("forged-stamp", "AF_PACKET with the stamp", (34,), forged_stamp, traffic=False, limit=FORGED, needs=(Need.REAL_ROOT,)),
    Scenario(
        "frames-on-a-new-device",
        "AF_PACKET on a device plugged in later",
        (34, 74),
        frames_on_a_new_device,
        traffic=False,
        limit="the layer under IP covers the devices that were there at arming; IP itself is held on every device",
    ),
)
