"""The rules a run loads into the client: none, the guide's by iptables-restore, the user's own files, or the lock's text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from failshut.drill.network.netns import Namespace, SetUpError, must
from failshut.drill.network.plan import Plan
from failshut.drill.rules.source import InlineLock, IptablesLock, Loadable, Lock, NftLock, RuleSource
from failshut.emit.iptables import complete_text
from failshut.host.filter.iptables import FAMILIES, program, steps
from failshut.model.iptables import Kind

__all__ = ["RuleSource", "guide_rules", "load", "load_beside", "load_lock", "texts_of"]


def guide_rules(plan: Plan, version: int) -> str:
    """Return the guide's rules for one family as an iptables-restore file: its kill switch, with the lab's addresses."""
    tunnel = plan.tunnel.interface
    lan = plan.cable.client4.network if version == 4 else plan.cable.client6.network
    endpoints = [each for each in plan.endpoints if each.address.version == version]
    lines = [
        *("*filter", ":INPUT DROP", ":FORWARD DROP", ":OUTPUT DROP"),
        "-A INPUT -i lo -j ACCEPT",
        "-A OUTPUT -o lo -j ACCEPT",
        "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        "-A OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        "-A INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -j ACCEPT",
        *(f"-A OUTPUT -p udp -d {each.address} --dport {int(each.port)} -j ACCEPT" for each in endpoints),
        f"-A OUTPUT -d {lan} -j ACCEPT",
        f"-A OUTPUT -o {tunnel} -j ACCEPT",
        f"-A INPUT -i {tunnel} -j ACCEPT",
    ]
    if version == 6:
        lines += ["-A INPUT -p ipv6-icmp -j ACCEPT", "-A OUTPUT -p ipv6-icmp -d fe80::/10 -j ACCEPT"]
        lines += ["-A OUTPUT -p ipv6-icmp -d ff02::/16 -j ACCEPT"]
    return "\n".join([*lines, "COMMIT", ""])


def load(client: Namespace, plan: Plan, source: RuleSource, lock: Lock, beside: Sequence[Loadable] = ()) -> None:
    """Load the rules of a run."""
    match source:
        case RuleSource.NONE:
            return
        case RuleSource.GUIDE:
            must(client.run("iptables-restore", stdin=guide_rules(plan, 4)))
            must(client.run("ip6tables-restore", stdin=guide_rules(plan, 6)))
        case RuleSource.BESIDE:
            load_beside(client, beside)
        case RuleSource.LOCK:
            load_lock(client, lock)
        case _:
            assert_never(source)


def reload(client: Namespace, plan: Plan, source: RuleSource, lock: Lock, beside: Sequence[Loadable] = ()) -> None:
    """Load the rules of a run over themselves."""
    if source is not RuleSource.LOCK:
        load(client, plan, source, lock, beside)
        return
    for command, text in texts_of(lock):
        _load(client, command, text)


def load_beside(client: Namespace, files: Sequence[Loadable]) -> None:
    """Load the user's files as they are, one after the other."""
    for each in files:
        result = client.run(*each.command, stdin=each.text)
        if not result.ok:
            raise SetUpError(f"{each.name} can't be loaded: {result.complaint[:2000]}")


def load_lock(client: Namespace, lock: Lock) -> None:
    """Load the lock over what the client has, as arming does."""
    match lock:
        case NftLock(text):
            _load(client, ("nft", "-f", "-"), text)
        case IptablesLock(rules, kind):
            saves = {family: must(client.run(program(family, Kind(kind), "save"))) for family in FAMILIES}
            for step in steps(rules, saves):
                _load(client, step.command(Kind(kind)), step.text)
        case InlineLock():
            # It stands in the tunnel's config: whoever brings the tunnel up loads it.
            return
        case _:
            assert_never(lock)


def _load(client: Namespace, command: Sequence[str], text: str) -> None:
    result = client.run(*command, stdin=text)
    if not result.ok:
        raise SetUpError(f"the kernel refused the lock: {result.complaint[:2000]}")


def texts_of(lock: Lock) -> list[tuple[tuple[str, ...], str]]:
    """Return what a lock is loaded from, over itself, each with its command; nothing of one that stands in the tunnel's config."""
    match lock:
        case NftLock(text):
            return [(("nft", "-f", "-"), text)]
        case IptablesLock(rules, kind):
            whole = {family: complete_text(rules, family) for family in FAMILIES}
            return [(each.command(Kind(kind)), each.text) for each in steps(rules, whole)]
        case InlineLock():
            return []
        case _:
            assert_never(lock)
