"""Random rulesets: every kind of statement that the two evaluators compute with, and some that they do not."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from failshut.model.ruleset import (
    AnyMap,
    AnySet,
    Assign,
    Base,
    Binary,
    BitOp,
    Chain,
    ChainType,
    Concat,
    Ct,
    Family,
    Hook,
    Jump,
    Limit,
    Match,
    Meta,
    NamedSet,
    Nat,
    NatKind,
    Notrack,
    Op,
    Payload,
    Range,
    Reject,
    Rule,
    Ruleset,
    SetRef,
    Table,
    Tuple,
    Unknown,
    UnknownMatch,
    Verdict,
    VerdictMap,
)

PORTS, MARKS = (22, 53, 443, 51820), (0, 1, 2, 3, 0x10)
HOSTS = tuple(ip_address(each) for each in ("10.8.0.1", "192.168.1.7", "203.0.113.7"))
NETS = (ip_network("192.168.1.0/24"), ip_network("0.0.0.0/1"), ip_network("203.0.113.0/28"))
DEVICES = ("lo", "eth0", "wg0", "eth*", "wg*")

mark = Meta("mark")
scalars = {
    mark: st.sampled_from(MARKS),
    Binary(BitOp.AND, mark, 3): st.sampled_from(MARKS),
    Binary(BitOp.XOR, Binary(BitOp.LEFT, mark, 1), 5): st.sampled_from(MARKS),
    Ct("mark"): st.sampled_from(MARKS),
    Ct("direction"): st.sampled_from(("original", "reply")),
    Meta("l4proto"): st.sampled_from(("tcp", "udp", "icmp")),
    Meta("skuid"): st.sampled_from((0, 1000)),
    Meta("oifname"): st.sampled_from(DEVICES),
    Meta("iifname"): st.sampled_from(DEVICES),
    Payload("ip", "daddr"): st.sampled_from(HOSTS + NETS),
    Payload("ip", "saddr"): st.sampled_from(HOSTS + NETS),
    Payload("ip6", "daddr"): st.sampled_from((ip_network("fe80::/10"), ip_network("ff02::/16"))),
    Payload("tcp", "dport"): st.sampled_from((*PORTS, Range(50, 500))),
    Payload("udp", "sport"): st.sampled_from((*PORTS, Range(50, 500))),
    Payload("th", "dport"): st.sampled_from(PORTS),
}
ORDERED = {mark, Ct("mark"), Payload("tcp", "dport"), Payload("udp", "sport"), Meta("skuid")}


@st.composite
def matches(draw):
    left = draw(st.sampled_from(list(scalars)))
    values = scalars[left]
    kind = draw(st.sampled_from(("one", "set", "order") if left in ORDERED else ("one", "set")))
    if kind == "order":
        number = draw(values.filter(lambda each: isinstance(each, int)))
        return Match(left, number, draw(st.sampled_from((Op.LT, Op.LE, Op.GT, Op.GE))))
    if kind == "one":
        return Match(left, draw(values), draw(st.sampled_from((Op.EQ, Op.NE))))
    elements = draw(st.lists(values, min_size=2, max_size=3, unique=True))
    return Match(left, AnySet(tuple(elements)), draw(st.sampled_from((Op.EQ, Op.NE))))


states = st.lists(st.sampled_from(("new", "established", "related", "invalid", "untracked")), min_size=2, max_size=3, unique=True)
special = st.one_of(
    states.map(lambda each: Match(Ct("state"), AnySet(tuple(each)), Op.IN)),
    states.map(lambda each: Match(Ct("state"), AnySet(tuple(each)), Op.NOT_IN)),
    st.just(Match(Binary(BitOp.AND, Payload("tcp", "flags"), 18), 2)),
    st.just(Match(Concat((Payload("ip", "daddr"), Payload("th", "dport"))), Tuple((NETS[0], Range(1, 100))))),
    st.just(Match(Payload("ip", "daddr"), SetRef("hosts"))),
    st.just(Limit(1, "second")),
    st.just(UnknownMatch("odd")),
)
writes = st.one_of(
    st.sampled_from(MARKS).map(lambda each: Assign(mark, each)),
    st.just(Assign(mark, Binary(BitOp.OR, Binary(BitOp.AND, mark, 0xFE), 2))),
    st.just(Assign(mark, Ct("mark"))),
    st.just(Assign(Ct("mark"), mark)),
    st.just(Notrack()),
)


def ends(targets: tuple[str, ...], odd: bool):
    plain = (Verdict.ACCEPT, Verdict.DROP, Verdict.RETURN, Reject("tcp reset"))
    verdicts = st.sampled_from((*plain, Unknown("strange")) if odd else plain)
    if not targets:
        return verdicts
    jumps = st.builds(Jump, st.sampled_from(targets), st.booleans())
    ports = st.lists(st.sampled_from(PORTS), min_size=1, max_size=3, unique=True)
    maps = ports.flatmap(
        lambda keys: st.tuples(*(st.one_of(st.sampled_from((Verdict.ACCEPT, Verdict.DROP)), jumps) for _ in keys)).map(
            lambda values: VerdictMap(Payload("tcp", "dport"), AnyMap(tuple(zip(keys, values, strict=True))))
        )
    )
    return st.one_of(verdicts, jumps, maps)


@st.composite
def rules(draw, targets=(), odd=True):
    statements = draw(st.lists(st.one_of(matches(), matches(), special), max_size=2))
    statements += draw(st.lists(writes, max_size=1))
    statements += draw(st.lists(ends(targets, odd), max_size=1))
    return Rule(tuple(statements))


@st.composite
def tables(draw, name, odd=True):
    leaf = Chain("leaf", tuple(draw(st.lists(rules(odd=odd), max_size=3))))
    middle = Chain("middle", tuple(draw(st.lists(rules(("leaf",), odd), max_size=3))))
    chains = [leaf, middle]
    hooks = (Hook.PREROUTING, Hook.INPUT, Hook.FORWARD, Hook.OUTPUT, Hook.POSTROUTING)
    for hook in draw(st.lists(st.sampled_from(hooks), min_size=1, max_size=3)):
        kind = draw(st.sampled_from((ChainType.FILTER, ChainType.FILTER, ChainType.ROUTE)))
        kind = kind if hook is Hook.OUTPUT else ChainType.FILTER
        base = Base(kind, hook, draw(st.sampled_from((-300, -150, 0, 10))), draw(st.sampled_from((Verdict.ACCEPT, Verdict.DROP))))
        chains.append(Chain(f"{hook}{len(chains)}", tuple(draw(st.lists(rules(("leaf", "middle"), odd), max_size=4))), base))
    if draw(st.booleans()):
        translate = Rule((*draw(st.lists(matches(), max_size=1)), Nat(draw(st.sampled_from(NatKind)), HOSTS[0])))
        where = draw(st.sampled_from((Hook.OUTPUT, Hook.POSTROUTING)))
        chains.append(Chain(f"nat{where}", (translate,), Base(ChainType.NAT, where, 100, Verdict.ACCEPT)))
    hosts = NamedSet("hosts", ("ipv4_addr",), elements=HOSTS[:2])
    return Table(draw(st.sampled_from((Family.INET, Family.IP))), name, tuple(chains), (hosts,))


rulesets = st.builds(lambda one, two: Ruleset((one, two)), tables("one"), tables("two"))
