"""A whole way through the kernel as formulas: every hook, every base chain, re-routes and translations between them."""

from __future__ import annotations

from dataclasses import dataclass

from failshut.audit.netfilter.fields import IFNAME
from failshut.audit.netfilter.nat import OF_ERRORS, Translation, translated
from failshut.audit.netfilter.route import ROUTED_ANEW, Route, Stop, Way, device_listed
from failshut.audit.netfilter.words import NEW, RELATED, TRANSLATED
from failshut.audit.predicate import All, DeviceIs, FieldIn, Is, Not, Predicate, Some, When
from failshut.audit.symbolic.chains import Chains
from failshut.audit.symbolic.formula import Bool, Number, choose, conj, disj, neg, same, within
from failshut.audit.symbolic.space import Space
from failshut.audit.symbolic.terms import Env, Scope, matches
from failshut.model.ruleset import ChainType, Hook, Verdict

_ROUTING = {
    0: (),
    4: (("mark", 32), ("ip saddr", 32), ("ip daddr", 32), (ROUTED_ANEW, 1)),
    6: (("mark", 32), ("ip6 saddr", 128), ("ip6 daddr", 128), (ROUTED_ANEW, 1)),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """`leaves`: the packets that every chain accepts, or of which a copy goes elsewhere; `end`: what they are then."""

    route: Route
    space: Space
    leaves: Bool
    end: Env
    chains: Chains


@dataclass(slots=True)
class _Travel:
    route: Route
    chains: Chains
    env: Env
    alive: Bool = True
    copied: Bool = False
    rerouted: Bool = False

    def read(self, name: str, width: int, kind: str = "number") -> Number:
        return Scope(self.chains.space, self.env, None).read(name, width, kind)


def encode(route: Route, names: tuple[str, ...]) -> Encoding:
    """Work out one way for packets of one family; `names` are the devices that there may be."""
    space = Space(route.family, names)
    chains = Chains(space)
    travel = _Travel(route, chains, Env())
    if route.never:
        _write(travel, "ct status", travel.read("ct status", 32) & (0xFFFFFFFF ^ route.never))
    for hook, stops in route.hooks:
        _enter(travel, hook)
        _hook(travel, hook, stops)
    leaves = disj([travel.alive, travel.copied])
    return Encoding(route, space, leaves, travel.env, chains)


def _write(travel: _Travel, name: str, value: Number) -> None:
    travel.env = travel.chains.next_version({**travel.env.written, name: value}, travel.env.stage)


def _device(travel: _Travel, name: str) -> Number:
    return travel.chains.space.variable(name, 16, IFNAME)


def _enter(travel: _Travel, hook: Hook) -> None:
    """Set the devices as the hook sees them. The output hook keeps its first device after a re-route; what comes later does not."""
    local = travel.route.way is Way.OUTPUT
    last = _device(travel, "oifname")
    if travel.rerouted is not False:
        last = choose(travel.rerouted, _device(travel, "oifname rerouted"), last, 16)
    match hook:
        case Hook.INGRESS | Hook.PREROUTING | Hook.INPUT:
            devices: tuple[Number, Number] = (_device(travel, "iifname"), 0)
        case Hook.FORWARD:
            devices = (_device(travel, "iifname"), _device(travel, "oifname"))
        case Hook.OUTPUT:
            devices = (0, _device(travel, "oifname"))
        case Hook.POSTROUTING:
            devices = (_device(travel, "via" if local else "iifname"), last)
        case Hook.EGRESS:
            devices = (0, last)
    travel.env = travel.chains.next_version(
        {**travel.env.written, "iifname": devices[0], "oifname": devices[1]},
        # The choke point's routes are those that the packet leaves with; below IP nothing is routed.
        travel.env.stage if hook is Hook.EGRESS and travel.env.stage else hook.value,
    )


def _hook(travel: _Travel, hook: Hook, stops: tuple[Stop, ...]) -> None:
    nat_seen = False
    for stop in stops:
        if stop.is_nat and not nat_seen:
            nat_seen = True
            _known_connection(travel, hook, stops)
        called = _called(travel, stop)
        if called is False:
            continue
        before = travel.env
        outcome = travel.chains.outcome(stop, stop.chain.name, before, stop.chain.name)
        passes = disj([outcome.accept, outcome.fall]) if stop.base.policy is Verdict.ACCEPT else outcome.accept
        travel.copied = disj([travel.copied, conj([travel.alive, called, outcome.copied])])
        travel.alive = conj([travel.alive, disj([neg(called), passes])])
        _merge(travel, called, outcome.env)
        if hook is Hook.OUTPUT and (stop.base.type is ChainType.ROUTE or stop.is_nat):
            _reroute(travel, before)


def _merge(travel: _Travel, called: Bool, other: Env) -> None:
    if called is True:
        travel.env = other
        return
    for name, new in other.written.items():
        if new is not travel.env.written.get(name):
            width = 32 if isinstance(new, int) else new.size()
            old = travel.read(name, width)
            width = width if isinstance(old, int) else old.size()
            _write(travel, name, choose(called, new, old, width))


def _reroute(travel: _Travel, before: Env) -> None:
    """Let the packet take another device when a chain that re-routes changed its mark or an address."""
    changed = []
    for name, width in _ROUTING[travel.route.family]:
        old = Scope(travel.chains.space, before, None)
        if name in travel.env.written and travel.env.written[name] is not before.written.get(name):
            changed.append(neg(same(old.read(name, width), travel.env.written[name])))
    travel.rerouted = disj([travel.rerouted, *changed])


def _first(travel: _Travel) -> Bool:
    """Return when the packet is the first of its connection: the only one that nat chains are asked about."""
    state = travel.read("ct state", 32)
    return conj([within(travel.read("first", 1), [(1, 1)]), within(state, [(NEW, NEW), (RELATED, RELATED)])])


def _known_connection(travel: _Travel, hook: Hook, stops: tuple[Stop, ...]) -> None:
    """Translate a packet of a known connection as one of these chains' rules may have done when it began, or not at all."""
    made = translated(stops, travel.route.family, incoming=hook in (Hook.PREROUTING, Hook.OUTPUT))
    if not made:
        return
    travel.env = travel.chains.next_version(travel.env.written, f"{hook} translated")
    tracked = within(travel.read("ct state", 32), [(2, 2), (4, 4), (8, 8)])
    # Its connection says so (nf_nat_packet): what was not translated when it began never is.
    status = travel.read("ct status", 32)
    says_so = bool(status & TRANSLATED) if isinstance(status, int) else (status & TRANSLATED) != 0
    known = conj([neg(_first(travel)), tracked, says_so])
    before = travel.env
    for name, width in dict.fromkeys((one.field, one.width) for each in made for one in each.fields):
        by = disj([_as_written(travel, each) for each in made if name in {one.field for one in each.fields}])
        new = travel.chains.space.variable(f"nat {name}", width)
        _write(travel, name, choose(conj([known, by]), new, travel.read(name, width), width))
    if hook is Hook.OUTPUT:
        _reroute(travel, before)


def _as_written(travel: _Travel, made: Translation) -> Bool:
    """Return when what a packet was translated to is what one rule says, and the packet may be of a connection that it asks for."""
    free = travel.chains.space.variable
    said = [within(free(f"nat {each.field}", each.width), [(each.low, each.high)]) for each in made.fields]
    if not made.protocols or not travel.route.keeps_protocol:
        return conj(said)
    own = free("l4proto", 8)
    error = conj([within(own, [(each, each) for each in OF_ERRORS]), within(travel.read("ct state", 32), [(RELATED, RELATED)])])
    return conj([*said, disj([within(own, [(each, each) for each in made.protocols]), error])])


def _called(travel: _Travel, stop: Stop) -> Bool:
    if stop.is_nat:
        return _first(travel)
    if stop.on_devices:
        if not stop.base.device:
            where = f"{stop.prefix}{stop.chain.name}"
            return travel.chains.space.anything(f"{where}?device", "the device that a chain hangs on is not said", where)
        device = travel.read("iifname" if stop.hook is Hook.INGRESS else "oifname", 16, IFNAME)
        names = travel.chains.space.names
        return within(device, [(i, i) for i, name in enumerate(names) if device_listed(stop.base.device, name)])
    return True


def _named(space: Space, name: str) -> Number:
    return space.variable(name, 16, IFNAME)


def condition(encoding: Encoding, predicate: Predicate) -> Bool:
    """Return a question's condition as a formula. Raises NotUnderstoodError for what no field stands for."""
    match predicate:
        case All(parts):
            return conj([condition(encoding, each) for each in parts])
        case Some(parts):
            return disj([condition(encoding, each) for each in parts])
        case Not(part):
            return neg(condition(encoding, part))
        case FieldIn(name, width, values):
            return within(encoding.space.variable(name, width), [(each, each) for each in values])
        case DeviceIs(name, names):
            pairs = [pair for each in names for pair in encoding.space.indices(each)]
            return within(_named(encoding.space, name), pairs)
        case Is(match, when):
            env = encoding.end if when is When.END else Env()
            return matches(Scope(encoding.space, env, None), match)
