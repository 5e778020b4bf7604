"""What iptables has no word for: left out of the lock by name, and said by `check`, `plan` and `status`. Nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from failshut.lower.rules import META_MARK
from failshut.model.host import HostFacts
from failshut.model.marks import ARRIVED_OUTSIDE
from failshut.model.ruleset import (
    Assign,
    Chain,
    Counter,
    Family,
    Hook,
    Left,
    Limit,
    Match,
    Rule,
    Ruleset,
    SetRef,
    Socket,
    Statement,
    Table,
    Update,
)
from failshut.model.timed import CANDIDATES, LOGGING, OUTSIDE_PROGRAMS, PROBE, TIMED, TIMED_LAN, TIMED_TO, TIMED_USER

# Sets that are filled while the lock stands and that iptables does not have: empty, so that a rule which asks for them never holds.
_FILLED_LATER = frozenset({TIMED, TIMED_LAN, TIMED_TO, TIMED_USER, CANDIDATES, PROBE, OUTSIDE_PROGRAMS, LOGGING})


@dataclass(frozen=True, slots=True)
class Unsaid:
    """Something of the lock that iptables can't hold: what, and what that means."""

    what: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.what}: {self.meaning}"


_ALWAYS = (
    Unsaid("the layer under IP", "frames of raw sockets, macvlan children and bridged guests leave unseen"),
    Unsaid("guard and monitor", "`iptables -F` opens the machine until the lock is put back"),
    Unsaid("ARP", "the machine answers who asks the link for the tunnel's address, and so says that it has it"),
    Unsaid("what is open for a time", "`allow`, `portal`, `exec --outside`, `refresh` and `log` don't work"),
    Unsaid("the list of what was refused", "`watch` doesn't work, `top` has no destinations; packets are counted"),
)
_TAILSCALE = Unsaid("the mark of tailscaled's sockets", "with rp_filter = 1 the answers to tailscaled are lost over IPv4")


def left_out(*, tailscale: bool) -> tuple[Unsaid, ...]:
    """Return what of the lock the kernel does not hold when iptables is its backend."""
    return (*_ALWAYS, *((_TAILSCALE,) if tailscale else ()))


def without_unsaid(lock: Ruleset, facts: HostFacts) -> Table:
    """Return the lock's table of IP rules without what iptables can't say. What else it can't say is the emitter's to refuse."""
    table = next(each for each in lock.tables if each.family is Family.INET)
    secrets = frozenset(map(int, (facts.stamp, facts.outside)))
    chains = (replace(each, rules=tuple(_kept(each, secrets))) for each in table.chains)
    return replace(table, chains=tuple(chains), sets=(), counters=())


def _kept(chain: Chain, secrets: frozenset[int]) -> Iterator[Rule]:
    for rule in chain.rules:
        # Who brings the mark of what is outside along loses it, here too: the routing knows it.
        forged = Assign(META_MARK, 0) in rule.statements and chain.base is not None and chain.base.hook is Hook.OUTPUT
        if forged or not any(unsaid(each, secrets) for each in rule.statements for unsaid in _RULES_UNSAID):
            statements = tuple(each for each in rule.statements if not _unsaid_statement(each, secrets))
            if any(not isinstance(each, Match | Limit) for each in statements):
                yield replace(rule, statements=statements)


def _asks_what_is_filled_later(statement: Statement, _: frozenset[int]) -> bool:
    return (
        isinstance(statement, Match) and isinstance(statement.right, SetRef) and statement.right.name.rstrip("46") in _FILLED_LATER
    )


def _asks_for_a_secret_mark(statement: Statement, secrets: frozenset[int]) -> bool:
    """Whether a rule is for packets with a mark that nothing writes here: the stamp, or what is outside."""
    if not isinstance(statement, Match) or not isinstance(statement.right, int):
        return False
    return (statement.left == META_MARK and statement.right in secrets) or statement.right == int(ARRIVED_OUTSIDE)


def _asks_a_socket(statement: Statement, _: frozenset[int]) -> bool:
    return isinstance(statement, Match) and any(isinstance(each, Socket) and each.key == "mark" for each in _parts(statement.left))


def _parts(left: Left) -> Iterator[object]:
    yield left
    yield getattr(left, "left", None)


_RULES_UNSAID: tuple[Callable[[Statement, frozenset[int]], bool], ...] = (
    _asks_what_is_filled_later,
    _asks_for_a_secret_mark,
    _asks_a_socket,
)


def _unsaid_statement(statement: Statement, secrets: frozenset[int]) -> bool:
    """Whether a statement only tells the layer under IP, or keeps the books: each rule of iptables counts by itself."""
    match statement:
        case Assign(target, value):
            return target == META_MARK and isinstance(value, int) and value in secrets
        case Update():
            return True
        case Counter(name):
            return bool(name)
        case _:
            return False
