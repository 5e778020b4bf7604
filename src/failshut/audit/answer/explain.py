"""A witness in words: the packet in one line, the rule that let it go, and why, in one plain sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from failshut.audit.answer.result import Replay, Result, Witness
from failshut.audit.concrete.fate import Step
from failshut.audit.netfilter.accounts import accounts
from failshut.audit.netfilter.fields import GROUP
from failshut.audit.netfilter.route import Way
from failshut.audit.netfilter.words import (
    ESTABLISHED,
    ICMP,
    ICMPV6,
    INVALID,
    NEW,
    RELATED,
    TCP,
    UDP,
    UNTRACKED,
    account_number,
    number,
)
from failshut.audit.world import DADDR
from failshut.model.packet import PROTOCOL_NAMES
from failshut.model.ruleset import Binary, Concat, Ct, Left, Match, Meta, Payload, Socket, VerdictMap

_STATES = {NEW: "new", ESTABLISHED: "established", RELATED: "related", INVALID: "invalid", UNTRACKED: "untracked"}
_WITH_PORTS = (TCP, UDP, 33, 132, 136)
_NO_CHAIN = "nothing filters {what}: no chain of this ruleset sees it"


# Of one rule, and of one list, nobody reads more.
LONGEST, MOST_LISTED = 400, 12


@dataclass(frozen=True, slots=True)
class Explained:
    """`packet` in one line; `rule` as `file:line: text`, or what stands for it; `why` in a sentence."""

    packet: str
    rule: str
    why: str


def explain(result: Result, witness: Witness) -> Explained:
    """Return a witness in words."""
    return Explained(packet_line(witness), rule_line(witness.culprit), _why(result, witness))


def packet_line(witness: Witness) -> str:
    """Return the packet in one line: state, protocol, from, to, by which device, whose."""
    packet, end = witness.packet, witness.fate.end
    device = _text(end.get("oifname")) or _text(packet.get("oifname")) or _text(packet.get("iifname"))
    if witness.way is Way.FRAME:
        kind = {4: "an IPv4 frame", 6: "an IPv6 frame"}.get(
            witness.family, f"a frame of EtherType {_number(packet, 'ethertype'):#06x}"
        )
        return f"{kind} written below IP leaves {device}"
    words = [_STATES.get(_number(packet, "ct state"), "any"), _protocol(packet), f"{_ends(witness)}"]
    passes = {Way.OUTPUT: f"leaves {device}", Way.INPUT: f"comes in by {_text(packet.get('iifname'))}"}
    through = f"from {_text(packet.get('iifname'))} leaves {device}"
    return " ".join([*words, passes.get(witness.way, through), *_owner(witness)])


def _protocol(packet: dict[str, int | str]) -> str:
    number = _number(packet, "l4proto")
    name = PROTOCOL_NAMES.get(number, f"protocol {number}")
    if number in (ICMP, ICMPV6):
        return f"{name} type {_number(packet, 'icmp type')}"
    return name.upper() if number in (TCP, UDP) else name


def _ends(witness: Witness) -> str:
    start, end = witness.packet, witness.fate.end
    name, kind = ("ip", IPv4Address) if witness.family == 4 else ("ip6", IPv6Address)
    ports = _number(start, "l4proto") in _WITH_PORTS and not _number(start, "later fragment")
    source, target = (_host(str(kind(_number(end, f"{name} {each}")))) for each in ("saddr", "daddr"))
    if not ports:
        return f"{source} → {target}"
    return f"{source}:{_number(end, 'sport')} → {target}:{_number(end, 'dport')}"


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _owner(witness: Witness) -> Iterable[str]:
    packet, way = witness.packet, witness.way
    details = []
    if way is Way.OUTPUT:
        details.append(_account("skuid", witness) if _number(packet, "socket") else "no program's own")
        if "skgid" in packet and _number(packet, "skgid") != _number(packet, "skuid"):
            details.append(_account("skgid", witness))
    details += [f"of {_group(value, witness)}" for name, value in packet.items() if name.startswith("socket cgroupv2") and value]
    marks = ("mark", "ct mark", "cgroup")
    details += [f"{name} {_number(packet, name):#x}" for name in marks if _number(packet, name)]
    return [f"({', '.join(details)})"] if details else []


def _account(key: str, witness: Witness) -> str:
    """Return whose the packet is: by name where the rules name this user or group, by number otherwise."""
    kind, value = key.removeprefix("sk"), _number(witness.packet, key)
    names = (name for step in witness.fate.steps for name in accounts(step.stop.table, key))
    return f"{kind} {next((name for name in names if account_number(name) == value), value)}"


def _group(value: int | str, witness: Witness) -> str:
    """Return the control group whose path has this checksum, where the rules that the packet met name it."""
    for step in witness.fate.steps:
        table = step.stop.table
        sets = (each.elements or () for each in table.sets if each.key == (GROUP,))
        matches = (each for each in table.statements() if isinstance(each, Match))
        named = (each.right for each in matches if isinstance(each.left, Socket))
        for path in (*(each for elements in sets for each in elements), *named):
            if isinstance(path, str) and number(path, GROUP) == value:
                return path
    return "a control group that no rule names"


def _number(packet: object, name: str) -> int:
    value = packet.get(name, 0) if hasattr(packet, "get") else 0
    return value if isinstance(value, int) else 0


def shortened(values: Iterable[object]) -> str:
    """Return a list in words, but of a long one only how it begins."""
    words = list(map(str, values))
    rest = len(words) - MOST_LISTED
    return ", ".join(words[:MOST_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def shorten(text: str) -> str:
    """Return a rule's text, but of a very long one only how it begins."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def replay_line(replay: Replay) -> str:
    """Return what became of a packet that was sent: the verdict, what was captured, how it came about."""
    packets = f"{replay.packets} packet{'s' if replay.packets != 1 else ''}"
    seen = f"{replay.captured} ({packets})" if replay.captured else ""
    return f"{replay.outcome}: {'; '.join(each for each in (seen, replay.happened) if each)}"


def rule_line(step: Step | None) -> str:
    """Return where a step's rule stands, and its text."""
    if step is None:
        return "no chain"
    table = f"{step.stop.table.family} {step.stop.table.name}"
    if step.rule is None:
        return f"{_place(step)}policy accept of chain {step.stop.chain.name} (table {table})"
    # A chain that accepts whatever it is called for has been called by the rule that matters.
    asking = [each for each in (*step.calls, step.rule) if any(isinstance(one, Match) for one in each.statements)]
    rule = asking[-1] if asking else step.rule
    if rule.origin is not None and rule.origin.text:
        return f"{rule.origin}: {shorten(rule.origin.text)}"
    return f"rule {step.index + 1} of chain {step.chain} (table {table})"


def _place(step: Step) -> str:
    return f"{step.stop.chain.origin}: " if step.stop.chain.origin else ""


def _why(result: Result, witness: Witness) -> str:
    step = witness.culprit
    family = {4: "IPv4", 6: "IPv6"}.get(witness.family, "such frames")
    if step is None:
        what = {Way.FRAME: "what is sent below IP", Way.FORWARD: f"forwarded {family}"}.get(witness.way, f"outgoing {family}")
        return _NO_CHAIN.format(what=what)
    if step.rule is None:
        return f"no rule refuses it, and {step.stop.chain.name} accepts what reaches its end; {result.question.because}"
    if result.question.name == "exempt" and not _asks_for_sender(step):
        return "the rule that lets it out asks for no user, group or mark"
    if meant := _meant_for_less(witness, _asked(step)):
        return meant
    if witness.packet.get("ct state") == ESTABLISHED and _asks_only_state(step):
        return "a flow that was opened through the tunnel goes on in the clear when its route is lost: the rule asks for no device"
    return result.question.because


def _asked(step: Step) -> list[Left]:
    """Return all that the rule, and those that called its chain, ask for."""
    rules = [each for each in (*step.calls, step.rule) if each]
    asked = [each for rule in rules for each in rule.statements if isinstance(each, Match | VerdictMap)]
    return [each.left if isinstance(each, Match) else each.key for each in asked]


# By protocol and port, what a rule for it is meant for, and where that goes.
_DHCP = {67: "255.255.255.255 and the router", 547: "ff02::1:2"}


def _meant_for_less(witness: Witness, asked: list[Left]) -> str:
    """Return why a rule lets out more than it seems to be meant for; empty where nothing says so."""
    protocol, port = _number(witness.packet, "l4proto"), _number(witness.fate.end, "dport")
    if port in _DHCP and protocol == UDP and _PORTS & set(asked) and not set(DADDR.values()) & set(asked):
        return f"a rule for DHCP that asks for no destination lets its ports through to everywhere: name {_DHCP[port]}"
    if (protocol, witness.family) in ((ICMPV6, 4), (ICMP, 6)) and Meta("l4proto") in asked:
        return f"the rule asks for {PROTOCOL_NAMES[protocol]}'s number and not for its family: IPv{witness.family} may have it too"
    return ""


_PORTS = {Payload(protocol, field) for protocol in ("udp", "th") for field in ("sport", "dport")}


def _asks_for_sender(step: Step) -> bool:
    return any(map(_is_of_sender, _asked(step)))


def _is_of_sender(left: object) -> bool:
    match left:
        case Meta("skuid" | "skgid" | "mark" | "cgroup") | Ct("mark") | Socket():
            return True
        case Concat(parts):
            return any(map(_is_of_sender, parts))
        case Binary():
            return _is_of_sender(left.left)
    return False


def _asks_only_state(step: Step) -> bool:
    matches = [each for each in step.rule.statements if isinstance(each, Match)] if step.rule else []
    asked = [each.left for each in matches]
    return any(each == Ct("state") for each in asked) and not any(
        isinstance(each, Payload) or each == Meta("oifname") for each in asked
    )
