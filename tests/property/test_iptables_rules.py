"""Random rules, with the real iptables as the judge of what they are; random and damaged text: rules or findings, never more."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from failshut.model.ruleset import Family
from failshut.read.iptables import read_save
from iptables_rules import Program, each_program, programs, read, save

BOTH = [Family.IP, Family.IP6]
MASK = st.integers(0, 0xFFFFFFFF) | st.sampled_from([0xFFFFFFFF, 0xFF, 0xCA6C])
# Not the ends: iptables-nft lists `! 0:9` as `10:65535`, which is the same and another text.
PORT = st.integers(1, 65534)
NAMED = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp"}


def negation(draw) -> str:
    return draw(st.sampled_from(["", "! "]))


def address(draw, family, *forms) -> str:
    six = family is Family.IP6
    host = draw(st.ip_addresses(v=6 if six else 4))
    match draw(st.sampled_from(forms or ("host", "prefix", "mask"))):
        case "host":
            return str(host)
        case "prefix":
            return f"{host}/{draw(st.integers(0, 128 if six else 32))}"
        case _:
            return f"{host}/{draw(st.ip_addresses(v=6 if six else 4))}"


def span(draw, numbers, colon=":") -> str:
    low, high = sorted((draw(numbers), draw(numbers)))
    return draw(st.sampled_from([str(low), f"{low}{colon}{high}"]))


def words(draw, *choice) -> str:
    return ",".join(draw(st.lists(st.sampled_from(choice), min_size=1, max_size=3, unique=True)))


def bits(draw) -> str:
    mask = draw(MASK)
    return f"{draw(MASK) & mask:#x}/{mask:#x}"


def transport(draw, family, protocol) -> str:
    no = negation(draw)
    if protocol in NAMED:
        name = NAMED[protocol]
        parts = [f"-m {name} {no}--sport {span(draw, PORT)} --dport {span(draw, PORT)}", f"-m {name}"]
        listed = ",".join(span(draw, PORT) for _ in range(draw(st.integers(1, 4))))
        parts.append(f"-m multiport {no}--{draw(st.sampled_from(['sports', 'dports', 'ports']))} {listed}")
        if protocol == 6:
            flags = words(draw, "SYN", "ACK", "FIN", "RST", "URG", "PSH")
            parts += [f"{no}--tcp-flags {flags} {flags.split(',')[0]}", f"{no}--syn", f"--tcp-option {draw(st.integers(1, 255))}"]
        return draw(st.sampled_from(parts))
    if protocol in (1, 58):
        option = "-m icmp6 {}--icmpv6-type" if family is Family.IP6 else "-m icmp {}--icmp-type"
        kind = draw(st.sampled_from(["8", "3/1", "echo-request", "redirect", f"{draw(st.integers(0, 254))}"]))
        return f"{option.format(no)} {kind}"
    if protocol == 50:
        # Not up to the last: iptables-save leaves a range of all of them out, and with it that it was negated.
        return f"-m esp {no}--espspi {span(draw, MASK.filter(lambda each: each != 0xFFFFFFFF))}"
    return ""


def connection(draw, family) -> str:
    # No mask with holes: iptables-save leaves such a one out, and lists a single address.
    target = address(draw, family, "host", "prefix")
    options = [
        f"{negation(draw)}--ctstate {words(draw, 'NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED', 'SNAT', 'DNAT')}",
        f"{negation(draw)}--ctproto {draw(st.sampled_from([1, 6, 17]))}",
        f"{negation(draw)}--ctstatus {words(draw, 'EXPECTED', 'SEEN_REPLY', 'ASSURED', 'CONFIRMED')}",
        f"--ctdir {draw(st.sampled_from(['ORIGINAL', 'REPLY']))}",
        f"{negation(draw)}--ctorigdst {target}",
        f"{negation(draw)}--ctreplsrcport {span(draw, PORT)}",
    ]
    return "-m conntrack " + " ".join(draw(st.lists(st.sampled_from(options), min_size=1, max_size=3, unique=True)))


def surroundings(draw, family, chain) -> str:
    no, six = negation(draw), family is Family.IP6
    low, high = sorted(draw(st.tuples(*[st.ip_addresses(v=6 if six else 4)] * 2)))
    hops = "-m hl {}--hl-" if six else "-m ttl {}--ttl-"
    options = [
        f"-m state {no}--state {words(draw, 'NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED')}",
        f"-m mark {no}--mark {bits(draw)}",
        f"-m connmark {no}--mark {bits(draw)}",
        f"-m pkttype {no}--pkt-type {draw(st.sampled_from(['unicast', 'broadcast', 'multicast']))}",
        f"-m addrtype {no}--dst-type {draw(st.sampled_from(['LOCAL', 'MULTICAST', 'UNICAST', 'UNSPEC']))}",
        f"-m iprange {no}--dst-range {low}-{high}",
        f"-m length {no}--length {span(draw, st.integers(100, 65535))}",
        f"{hops.format(no)}eq {draw(st.integers(0, 255))}",
        f"{hops.format('')}lt {draw(st.integers(0, 255))}",
        f"-m dscp {no}--dscp {draw(st.integers(0, 63))}",
        f"-m tos {no}--tos {draw(st.integers(0, 255)):#x}",
        f"-m limit --limit {draw(st.integers(1, 50))}/{draw(st.sampled_from(['sec', 'min', 'hour', 'day']))} --limit-burst 7",
        '-m comment --comment "a \\"b\\" # c"',
        f"-m cpu {no}--cpu 0",
        connection(draw, family),
    ]
    if chain == "OUTPUT":
        options += [
            f"-m owner {no}--uid-owner {span(draw, MASK, '-')} {negation(draw)}--gid-owner {draw(st.integers(0, 70000))}"
        ] * 2
    else:
        options.append(f"-m mac {no}--mac-source 02:00:5e:10:00:Ff")
    if six:
        options += [f"-m frag {no}--fragid {span(draw, MASK)}", f"-m rt {no}--rt-type {draw(st.integers(0, 255))}", "-m hbh"]
    else:
        options += [f"-m addrtype {no}--src-type {words(draw, 'LOCAL', 'BROADCAST', 'MULTICAST', 'UNREACHABLE')} --limit-iface-in"]
    return draw(st.sampled_from(options))


def target(draw, table, protocol) -> str:
    options = [
        "-j ACCEPT",
        "-j DROP",
        "-j RETURN",
        '-j LOG --log-prefix "a b: " --log-level 7 --log-uid',
        "",
        "-j NFLOG --nflog-group 3",
    ]
    options += ["-j NFQUEUE --queue-num 3 --queue-bypass", "-j TRACE"]
    if table == "filter":
        options += ["-j REJECT"] + ["-p tcp -j REJECT --reject-with tcp-reset"] * (protocol is None)
    if table == "mangle":
        mark = draw(MASK)
        options += [f"-j {name} --set-xmark {bits(draw)}" for name in ("MARK", "CONNMARK")]
        options += [f"-j MARK --{how}-mark {mark:#x}" for how in ("and", "or", "xor", "set")]
        options += [f"-j CONNMARK --{how}-mark --nfmask {mark:#x} --ctmask {draw(MASK):#x}" for how in ("save", "restore")]
        options += [f"-j DSCP --set-dscp {draw(st.integers(0, 63))}", f"-j TOS --set-tos {draw(st.integers(0, 255)):#x}/0xff"]
        options += [f"-j CLASSIFY --set-class {draw(st.integers(0, 0xFFFF)):x}:{draw(st.integers(0, 0xFFFF)):x}"]
    if table == "raw":
        options += ["-j NOTRACK", "-j CT --notrack"]
    return draw(st.sampled_from(options))


@st.composite
def rule(draw, family, table):
    """Return a rule of the words whose meaning is known to the last bit."""
    chain = draw(st.sampled_from(["PREROUTING", "OUTPUT"] if table == "raw" else ["INPUT", "OUTPUT"]))
    protocol = draw(st.sampled_from([None, 1, 6, 17, 33, 50, 58, 132, 136]))
    parts = [f"-A {chain}"]
    if draw(st.booleans()):
        parts.append(f"{negation(draw)}-s {address(draw, family)}")
    if draw(st.booleans()):
        parts.append(f"{negation(draw)}-d {address(draw, family)}")
    if draw(st.booleans()):
        name = draw(st.sampled_from(["lo", "eth+", "wg0", "a*b", "e+0", "tun*"]))
        parts.append(f"{negation(draw)}{'-o' if chain == 'OUTPUT' else '-i'} {name}")
    if protocol:
        parts += [f"-p {protocol}", transport(draw, family, protocol)]
    parts += [surroundings(draw, family, chain) for _ in range(draw(st.integers(0, 2)))]
    parts.append(target(draw, table, protocol))
    return " ".join(each for each in parts if each)


def meant(text: str, family: Family) -> list[tuple[str, list[tuple[str, frozenset[object]]]]]:
    """Return what each chain of a text means; the order of the matches within a rule says nothing."""
    reading = read_save(text, "rules", family)
    assert not [each for each in reading.findings if each.is_error], reading.findings
    assert reading.approximations == ()
    chains = [chain for table in reading.ruleset.canonical().tables for chain in table.chains]
    return [(chain.name, [(each.comment, frozenset(each.statements)) for each in chain.rules]) for chain in chains]


@pytest.mark.skipif(not shutil.which("iptables-nft-restore"), reason="iptables is not installed: nobody to ask")
@each_program()
# Not shrunk: the failure names its one rule already, and every try loads ten.
@settings(max_examples=15, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_iptables_accepts_is_understood_and_means_what_it_saves(program: Program, data):
    """A rule of the exact vocabulary is read without an unknown, and as the same statements as iptables' own listing of it."""
    table = data.draw(st.sampled_from(["filter", "mangle", "raw"]))
    texts = [save(each, table=table) for each in data.draw(st.lists(rule(program.family, table), min_size=10, max_size=10))]

    for text, saved in zip(texts, program.load(*texts), strict=True):
        event("accepted" if saved else "refused")
        if saved:
            assert meant(text, program.family) == meant(saved, program.family), text


@pytest.mark.parametrize("rate", ["24/day", "36/day", "48/day", "60/minute", "90/hour", "172800/day", "12/minute", "7/second"])
@pytest.mark.parametrize("program", programs(), ids=lambda each: each.name)
def test_a_rate_is_what_iptables_saves_of_it(program: Program, rate):
    """In the shortest unit that it is a whole number of."""
    if shutil.which("iptables-nft-restore") is None:
        pytest.skip("iptables is not installed: nobody to ask")
    text = save(f"-A OUTPUT -m limit --limit {rate}")
    (saved,) = program.load(text)

    assert meant(text, program.family) == meant(saved, program.family), saved


LINES = [
    "*filter",
    "*nat",
    ":OUTPUT DROP [0:0]",
    ":A - [0:0]",
    "COMMIT",
    "-A OUTPUT -j A",
    "-A A -j OUTPUT",
    "-A A -g A",
    '-A A -m comment --comment "',
    "-A A -p tcp -m multiport --ports 1,2 ! -s 10.0.0.0/8 -j REJECT",
    "[1:2] -A A -m owner ! --uid-owner 5 -m recent --set -j MARK --set-xmark 0x1/0x2",
    "-I A 7",
    "-D A",
    "-X",
    "-F A",
    "-N",
    "-A",
    "!",
    "-A A ! !",
    "-A A -m",
    "-A A -s",
    "-A A -p tcp --dport",
    "-A A -m conntrack",
    "-A A -m owner",
    "-A A -j",
    "-A A -j LOG --log-level nine",
    "-A A -j DNAT --to-destination [::1]:5",
    "-A A -j CT --zone x",
    "-A A -j TTL",
    "-A A -m limit --limit 0/x",
    "-A A --=",
    "-A A --x=y -m z ---",
    "#",
    ":",
    "*",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(LINES) | st.text(max_size=40), max_size=12), st.sampled_from(BOTH))
def test_no_text_is_too_strange_to_be_read(lines, family):
    """Whatever stands there: rules or findings, never an exception."""
    read_save("\n".join(lines), "rules", family)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), family=st.sampled_from(BOTH), table=st.sampled_from(["filter", "mangle", "raw"]))
def test_a_damaged_rule_is_said_or_is_another_rule(data, family, table):
    """With a word dropped, doubled or replaced a rule is still read, and a line that is refused may do anything."""
    words_ = data.draw(rule(family, table)).split(" ")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(words_) - 1))
        words_[at : at + 1] = data.draw(st.sampled_from([[], [words_[at]] * 2, ["!"], ["-m", "x"], ["99999999999"], ["é"]]))
        if not words_:
            return

    reading = read(" ".join(words_), table=table, family=family)

    assert len(reading.ruleset.tables) == 1
