"""Loading the rules again, well and badly, while everything sends."""

from __future__ import annotations

from failshut.drill.attacker.flood import Flood
from failshut.drill.lab import Lab, Target
from failshut.drill.network.netns import must
from failshut.drill.network.rules import load_lock, texts_of
from failshut.drill.network.wait import until
from failshut.drill.scenario import Scenario
from failshut.drill.scenarios.routing import lose_rules, new_flows

REARMS, MOST_CONTROL_LOADS, CHANGES = 100, 600, 20
# What nearly everybody writes, and what leaks: a new base chain runs with policy accept until its transaction is committed.
NAIVE = """table inet naive {{}}
delete table inet naive
table inet naive {{
 chain o {{ type filter hook output priority 0; policy drop; oif lo accept; oifname {tunnel} accept; meta mark {mark:#x} accept; }}
}}
"""


def rearm_under_flood(lab: Lab, times: int = REARMS, least_sent: int = 0) -> None:
    """Arm again and again under a flood of UDP, TCP and raw packets that no rule allows."""
    lose_rules(lab)
    naive = NAIVE.format(tunnel=lab.tunnel.device, mark=int(lab.plan.fwmark))
    if not lab.has_own_rules:
        must(lab.client.run("nft", "-f", "-", stdin=naive))
    target = lab.target("the flood")
    flood = Flood(lab, {4: target.v4, 6: target.v6}).start()
    try:
        done = 0
        # The control is there to see the gap between two loads, not to fill the memory with it.
        while done < times or _wants_more(lab, done, flood.sent, least_sent, target):
            if lab.has_own_rules:
                lab.rearm()
            else:
                must(lab.client.run("nft", "-f", "-", stdin=naive))
            done += 1
            lab.progress(done)
    finally:
        flood.stop()
    lab.notes.append(f"{done} loads")


def _wants_more(lab: Lab, done: int, sent: int, least_sent: int, target: Target) -> bool:
    """Whether to go on: for the lock until enough was sent, for the control until its gap was seen."""
    if lab.has_own_rules:
        return sent < least_sent
    return done < MOST_CONTROL_LOADS and not lab.capture.saw(target.v4.packed) and not lab.capture.saw(target.v6.packed)


def loads_that_fail(lab: Lab) -> None:
    """Load the lock's text cut off at every twentieth of it, and with errors in it; then lose the rules."""
    for command, text in texts_of(lab.lock) if lab.is_locked else ():
        cuts = [text[: len(text) * part // 20] for part in range(1, 20)]
        answers = [lab.client.run(*command, stdin=each) for each in (*cuts, *_broken(command[0], text))]
        lab.check("a broken file is refused", not any(each.ok for each in answers[len(cuts) :]))
        accepted = sum(each.ok for each in answers[: len(cuts)])
        lab.notes.append(f"{accepted} of {len(cuts)} cut-off files were accepted by {command[0]}")
    lose_rules(lab)
    new_flows(lab)


def _broken(program: str, text: str) -> list[str]:
    if program == "nft":
        return [text + "\nnonsense", text.replace("chain", "chian", 1), text + "\nadd rule inet absent absent drop\n"]
    return [text + "\nnonsense\n", text.replace("-A ", "-Ä ", 1), text + "*filter\n-A ABSENT -j DROP\nCOMMIT\n"]


def while_the_tunnel_moves(lab: Lab) -> None:
    """Arm while the tunnel comes and goes: no order of the two may open a gap."""
    for _ in range(2):
        lab.tunnel.down()
        lab.rearm()
        lab.tunnel.up()
        lab.rearm()
    lab.tunnel.down()
    new_flows(lab)


def _at_length(lab: Lab) -> None:
    rearm_under_flood(lab, times=1000, least_sent=1_000_000)


def policy_changes(lab: Lab) -> None:
    """Switch to another server without a LAN, and back, under a flood that neither policy allows."""
    lose_rules(lab)
    target = lab.target("the flood")
    flood = Flood(lab, {4: target.v4, 6: target.v6}).start()
    try:
        for done in range(CHANGES if lab.is_locked else 1):
            lab.progress(done)
            if lab.is_locked:
                load_lock(lab.client, lab.other_lock)
                load_lock(lab.client, lab.lock)
        until(lambda: flood.sent > 0, within=5)
    finally:
        flood.stop()


# Too long for every drill; the tests run it.
AT_LENGTH = Scenario(
    "rearm-flood-at-length", "1,000 re-arms, a million packets", (60, 91), _at_length, traffic=False, window=0.2, slow=True
)

SCENARIOS = (
    Scenario("rearm-flood", f"{REARMS} re-arms under a flood", (60, 91), rearm_under_flood, traffic=False, window=0.2, slow=True),
    Scenario("failed-loads", "loads that fail or are cut off", (93,), loads_that_fail),
    Scenario("policy-changes", "the policy changes and back, under a flood", (70, 92), policy_changes, traffic=False, window=0.2),
    Scenario("rearm-and-tunnel", "re-arms while the tunnel comes and goes", (60,), while_the_tunnel_moves),
)
