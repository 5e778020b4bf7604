"""One packet through every base chain of its way: the verdict, the rule that decided, and the steps in between.

Apart from `symbolic` on purpose: each is the other's check. Source: nf_tables_core.c (nft_do_chain), netfilter/core.c
(nf_hook_slow), netfilter/nft_chain_route.c, netfilter/nf_nat_core.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from failshut.audit.concrete.fate import Fate, Oracle, Packet, Step
from failshut.audit.concrete.statements import Run, carried_out, family_of
from failshut.audit.netfilter.nat import OF_ERRORS, translated
from failshut.audit.netfilter.route import DEEPEST_CALL, DEEPEST_JUMP, ROUTED_ANEW, Route, Stop, Way, called_place, device_listed
from failshut.audit.netfilter.words import ETHERTYPE, NEW, NFPROTO, RELATED, TRANSLATED
from failshut.model.ruleset import ChainType, Hook, Jump, Rule, Verdict


def evaluate(route: Route, packet: Packet, oracle: Oracle = lambda _: True) -> Fate:
    """Send one packet along a route. A field that `packet` does not name is 0; `oracle` answers what no packet can."""
    now = dict(packet)
    if route.family:
        now["nfproto"], now["ethertype"] = NFPROTO[route.family], ETHERTYPE[route.family]
    else:
        now["nfproto"] = 0
    run = Run(packet, oracle, now, keeps_protocol=route.keeps_protocol)
    run.now["oifname first"] = packet.get("oifname", "")
    run.now["ct status"] = int(packet.get("ct status", 0)) & ~route.never
    rerouted = False
    for hook, stops in route.hooks:
        _enter(run, route.way, hook, rerouted)
        accepted, moved = _hook(run, hook, stops)
        rerouted = rerouted or moved
        if not accepted:
            return _fate(run, False)
    if route.way is Way.OUTPUT:
        _enter(run, route.way, Hook.EGRESS, rerouted)
    return _fate(run, True)


def _fate(run: Run, accepted: bool) -> Fate:
    return Fate(accepted, tuple(run.steps), dict(run.now), run.packet, run.copied)


def _enter(run: Run, way: Way, hook: Hook, rerouted: bool) -> None:
    """Set the devices as the hook sees them. The output hook keeps its first device after a re-route; what comes later does not."""
    here, there = run.packet.get("iifname", ""), run.packet.get("oifname", "")
    last = run.packet.get("oifname rerouted", "") if rerouted else there
    local = run.packet.get("via", "") if way is Way.OUTPUT else here
    if hook is not Hook.EGRESS or "stage" not in run.now:
        run.now["stage"] = hook.value
    run.now["iifname"], run.now["oifname"] = {
        Hook.INGRESS: (here, ""),
        Hook.PREROUTING: (here, ""),
        Hook.INPUT: (here, ""),
        Hook.FORWARD: (here, there),
        Hook.OUTPUT: ("", there),
        Hook.POSTROUTING: (local, last),
        Hook.EGRESS: ("", last),
    }[hook]


def _hook(run: Run, hook: Hook, stops: tuple[Stop, ...]) -> tuple[bool, bool]:
    """Call a hook's chains; return whether all of them accepted, and whether the packet was re-routed."""
    rerouted = nat_seen = False
    for stop in stops:
        if stop.is_nat and not nat_seen:
            nat_seen = True
            rerouted |= _known_connection(run, hook, stops)
        if not _is_called(run, stop):
            continue
        before = _routing(run)
        run.early = stop.early
        verdict = _base(run, stop)
        if verdict is not Verdict.ACCEPT:
            return False, rerouted
        changes_route = stop.base.type is ChainType.ROUTE or stop.is_nat
        rerouted |= hook is Hook.OUTPUT and changes_route and before != _routing(run)
    return True, rerouted


def _routing(run: Run) -> tuple[object, ...]:
    name = {4: "ip", 6: "ip6"}.get(family_of(run), "")
    return tuple(run.now.get(each, 0) for each in ("mark", f"{name} saddr", f"{name} daddr", ROUTED_ANEW))


def _known_connection(run: Run, hook: Hook, stops: tuple[Stop, ...]) -> bool:
    """Translate a packet of a known connection as one of these chains' rules may have done when it began, or not at all."""
    made = translated(stops, family_of(run), incoming=hook in (Hook.PREROUTING, Hook.OUTPUT))
    if not made:
        return False
    made = tuple(each for each in made if _may_be_of(run, each.protocols))
    run.now["stage"] = f"{hook} translated"
    if _is_first(run) or run.now.get("ct state", 0) not in (2, 4, 8) or not int(run.now.get("ct status", 0)) & TRANSLATED:
        return False
    before = _routing(run)
    said = {one.field: int(run.packet.get(f"nat {one.field}", 0)) for each in made for one in each.fields}
    fitting = [each for each in made if all(one.low <= said[one.field] <= one.high for one in each.fields)]
    run.now |= {one.field: said[one.field] for each in fitting for one in each.fields}
    return hook is Hook.OUTPUT and before != _routing(run)


def _may_be_of(run: Run, protocols: tuple[int, ...]) -> bool:
    """Whether a packet may belong to a connection of one of these protocols, of any where none is said."""
    own = run.packet.get("l4proto", 0)
    return not protocols or not run.keeps_protocol or own in protocols or (own in OF_ERRORS and run.now.get("ct state") == RELATED)


def _is_first(run: Run) -> bool:
    return bool(run.now.get("first", 0)) and run.now.get("ct state", 0) in (NEW, RELATED)


def _is_called(run: Run, stop: Stop) -> bool:
    if stop.is_nat:
        return _is_first(run)
    if stop.on_devices:
        if not stop.base.device:
            return run.oracle(f"{stop.prefix}{stop.chain.name}?device")
        return device_listed(stop.base.device, str(run.now["iifname" if stop.hook is Hook.INGRESS else "oifname"]))
    return True


@dataclass(frozen=True, slots=True)
class _Visit:
    """A chain that the packet is in: of which base chain's table, and `place`, by which calls it came there."""

    stop: Stop
    chain: str
    place: str

    def step(self, run: Run, index: int, rule: Rule | None, verdict: Verdict) -> Verdict:
        """Note a verdict, and return it."""
        run.steps.append(Step(self.stop, self.chain, index, rule, verdict is Verdict.ACCEPT, tuple(run.calls) if rule else ()))
        return verdict


def _base(run: Run, stop: Stop) -> Verdict:
    verdict = _chain(run, _Visit(stop, stop.chain.name, stop.chain.name))
    if verdict is Verdict.CONTINUE:
        run.steps.append(Step(stop, stop.chain.name, -1, None, stop.base.policy is Verdict.ACCEPT))
        return stop.base.policy
    return verdict


def _chain(run: Run, visit: _Visit) -> Verdict:
    """Return ACCEPT, DROP, or CONTINUE when the chain ended without a verdict."""
    chain = visit.stop.table.chain(visit.chain)
    if chain is None or visit.place.count("/") > DEEPEST_JUMP or len(run.calls) > DEEPEST_CALL:
        return _anything(run, visit)
    for index, rule in enumerate(chain.rules):
        verdict = _rule(run, visit, index, rule)
        if verdict is Verdict.RETURN:
            return Verdict.CONTINUE
        if verdict is not Verdict.CONTINUE:
            return verdict
    return Verdict.CONTINUE


def _rule(run: Run, visit: _Visit, index: int, rule: Rule) -> Verdict:
    """Return CONTINUE when the rule did not decide, RETURN when the chain ends."""
    stop = visit.stop
    for number, statement in enumerate(rule.statements):
        here = f"{visit.place}:{index}.{number}"
        match carried_out(run, stop, statement, stop.prefix + here):
            case None:
                continue
            case Verdict.ACCEPT | Verdict.DROP as verdict:
                return visit.step(run, index, rule, verdict)
            case Jump(target, goto):
                run.calls.append(rule)
                inner = _chain(run, _Visit(stop, target, called_place(here, target, goto=goto)))
                run.calls.pop()
                if inner is not Verdict.CONTINUE:
                    return inner
                return Verdict.RETURN if goto else Verdict.CONTINUE
            case verdict:
                return verdict
    return Verdict.CONTINUE


def _anything(run: Run, visit: _Visit) -> Verdict:
    """Return whatever the oracle says of a chain that could not be followed."""
    place = visit.stop.prefix + visit.place
    if run.oracle(f"{place}?accept"):
        return visit.step(run, -1, None, Verdict.ACCEPT)
    if run.oracle(f"{place}?drop"):
        return visit.step(run, -1, None, Verdict.DROP)
    return Verdict.CONTINUE
