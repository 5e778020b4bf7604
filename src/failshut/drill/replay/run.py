"""The replay itself: each witness sent under the ruleset, and where nothing came of it once more without."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from failshut.audit.answer.result import Outcome, Replay
from failshut.audit.netfilter.route import Way
from failshut.audit.netfilter.words import ESTABLISHED
from failshut.drill.network.capture import Capture
from failshut.drill.network.netns import SetUpError
from failshut.drill.replay import network
from failshut.drill.replay.accounts import give_accounts
from failshut.drill.replay.candidate import Candidate
from failshut.drill.replay.conntrack import Conntrack
from failshut.drill.replay.lab import TRIES, Lab, RulesGoneError, Sent
from failshut.drill.replay.rules import Rules
from failshut.drill.workers.process import Progress

# The worker gives a job 240 s; what was found until then is to be told.
MOST_SECONDS = 200


@dataclass(frozen=True, slots=True)
class Replaying:
    """What is replayed: the rules as they were given, the packets, and the machine that they are about."""

    rules: Rules
    candidates: tuple[Candidate, ...]
    devices: tuple[str, ...]
    tunnel: str
    uplinks: tuple[str, ...]
    transit: tuple[str, ...] = ()
    # Users and groups that the rules name.
    accounts: tuple[str, ...] = ()

    def carry_out(self, job: dict[str, str], progress: Progress) -> dict[str, object]:
        """Build the lab and send every packet, in namespaces that belong to the calling process alone."""
        began = time.monotonic()
        net = network.build(self.devices, self.tunnel)
        network.prove_tunnel(net)
        give_accounts(self.accounts)
        if complaint := self.rules.load(net.machine):
            return self.failed(job, complaint)
        watched = {*self.uplinks, *self.transit}
        ends = [(each.far, each.name) for each in net.devices.values() if not each.is_tunnel and each.name in watched]
        lab = Lab(net, self.rules, Conntrack(net.machine), Capture(net.outside, ends).start(), self.transit)
        replays: list[Replay] = []
        end = ""
        for number, each in enumerate(self.candidates):
            if not end and time.monotonic() - began > MOST_SECONDS:
                end = f"the replay was ended after {MOST_SECONDS} s"
            try:
                replays.append(Replay(Outcome.NOT_REPLAYED, happened=end) if end else replayed(lab, each, number))
            except RulesGoneError as error:
                end = f"the rules could not be loaded again: {error}"
                replays.append(Replay(Outcome.NOT_REPLAYED, happened=end))
            progress(number + 1)
        lab.capture.stop()
        return {"replays": [_json(each, lab.capture.dropped) for each in replays]}

    def failed(self, job: dict[str, str], reason: str) -> dict[str, object]:
        """Return that nothing was replayed."""
        del job
        return {"replays": [_json(Replay(Outcome.NOT_REPLAYED, happened=reason), 0) for _ in self.candidates]}


def _json(replay: Replay, lost: int) -> dict[str, object]:
    outcome, happened = replay.outcome, replay.happened
    if lost and outcome is Outcome.REFUTED:
        outcome, happened = Outcome.NOT_REPLAYED, f"the capture lost {lost} frames"
    return {"outcome": outcome.value, "captured": replay.captured, "packets": replay.packets, "happened": happened}


def replays_from(answer: dict[str, object]) -> tuple[Replay, ...]:
    """Return the replays of an answer."""
    listed = answer.get("replays")
    found = listed if isinstance(listed, list) else []
    return tuple(Replay(Outcome(each["outcome"]), each["captured"], each["packets"], each["happened"]) for each in found)


def replayed(lab: Lab, candidate: Candidate, number: int) -> Replay:
    """Send one witness under the ruleset, and where it is not seen once more without it."""
    if missing := [each for each in candidate.devices if each != "lo" and each not in lab.net.devices]:
        return Replay(Outcome.NOT_REPLAYED, happened=f"the lab has no device {', '.join(missing)}")
    run = os.urandom(4).hex().encode() + b"%03d" % number
    try:
        sent = lab.send(candidate, b"R" + run, locked=True)
        if not sent.seen and lab.rules.remember:
            with lab.without_rules():
                pass
            sent = lab.send(candidate, b"A" + run, locked=True)
        if not sent.seen and candidate.state == ESTABLISHED and candidate.way is not Way.FRAME:
            # A masqueraded connection ends when its packets take another device (nf_nat_oif_changed); an older one does not.
            earlier = lab.send(candidate, b"E" + run, locked=True, before=True)
            sent = earlier if earlier.seen else sent
        if sent.seen:
            return _confirmed(candidate, sent)
        with lab.without_rules():
            control = lab.send(candidate, b"C" + run, locked=False)
            return _not_seen(lab, candidate, sent, control)
    except (OSError, SetUpError) as error:
        return Replay(Outcome.NOT_REPLAYED, happened=f"it can't be sent here: {getattr(error, 'strerror', '') or error}")


def _confirmed(candidate: Candidate, sent: Sent) -> Replay:
    lacking = candidate.left_without()
    said = "; ".join(each for each in (sent.how, f"it left without {lacking}" if lacking else "") if each)
    return Replay(Outcome.CONFIRMED, f"{sent.seen[0].device}: {sent.seen[0].packet}", len(sent.seen), said)


def _not_seen(lab: Lab, candidate: Candidate, sent: Sent, control: Sent) -> Replay:
    """Judge a witness that was not seen, by what became of it without the rules."""
    lacking = candidate.not_made() or sent.failure or control.failure
    if lacking:
        return Replay(Outcome.NOT_REPLAYED, happened=f"the lab can't make it whole: {lacking}")
    if not control.seen:
        said = f" ({control.refusal})" if control.refusal else ""
        return Replay(Outcome.NOT_REPLAYED, happened=f"without any rules it is not seen to leave either{said}")
    if (wrong := lab.state_without_rules(candidate)) is not None:
        return Replay(Outcome.NOT_REPLAYED, happened=f"the kernel calls such a packet {wrong}")
    said = f"; the kernel answered: {sent.refusal}" if sent.refusal else ""
    how = f"{sent.how}; " if sent.how else ""
    times = sum(count for count, _ in TRIES)
    return Replay(Outcome.REFUTED, happened=f"{how}sent {times} times and not seen; without the rules it is seen{said}")
