"""Rules as lines of an iptables-restore file."""

from __future__ import annotations

import re
from itertools import groupby

from failshut.emit.iptables.matches import ALL_BITS, limit_words, match_words, number_and_mask
from failshut.emit.nft_expressions import UnsupportedError
from failshut.model.iptables import LONGEST_NAME
from failshut.model.ruleset import (
    AnySet,
    Assign,
    Binary,
    BitOp,
    Ct,
    Jump,
    Limit,
    Log,
    Match,
    Meta,
    Nat,
    NatKind,
    Op,
    Payload,
    Reject,
    Rule,
    Statement,
    Verdict,
)

_VERDICTS = {Verdict.ACCEPT: "ACCEPT", Verdict.DROP: "DROP", Verdict.RETURN: "RETURN"}
_REJECTS = {
    ("tcp reset", ""): "tcp-reset",
    ("icmp", "admin-prohibited"): "icmp-admin-prohibited",
    ("icmpv6", "admin-prohibited"): "icmp6-adm-prohibited",
}
_WRITTEN = {"ttl": ("TTL", "--ttl-set"), "hoplimit": ("HL", "--hl-set")}
# iptables' words for the levels of syslog(3) that nft calls otherwise.
_LEVELS = {"warn": "warning", "err": "error"}
_ANY_CONNECTION = Match(Ct("state"), AnySet(("new", "established", "related")), Op.IN)
_PLAIN = re.compile(r"[A-Za-z0-9_.:/=,+-]+")
# XT_MAX_COMMENT_LEN and the prefix of xt_LOG, with the byte that ends them.
_LONGEST = {"comment": 255, "log-prefix": 29, "nflog-prefix": 63}
_MERGED = ("-m tcp", "-m udp", "-m sctp", "-m dccp")


def rule_line(chain: str, rule: Rule) -> str:
    """Return `-A chain …`. Raises `UnsupportedError` for what iptables can't say."""
    words = ["-A", chain_name(chain), *_matches(rule), *_comment(rule.comment)]
    done = [each for each in rule.statements if not isinstance(each, Match | Limit)]
    if len(done) > 1:
        raise UnsupportedError("a rule of iptables does one thing")
    for each in done:
        words += target_words(each)
    return " ".join(words)


def chain_name(name: str) -> str:
    """Return a chain's name. Raises `UnsupportedError` for one that iptables can't take."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.…-]*", name) or len(name.encode()) > LONGEST_NAME:
        raise UnsupportedError(f"iptables can't take {name!r} as a chain's name")
    return name


def target_words(statement: Statement) -> list[str]:
    """Return what a rule does: `-j …`, or `-g …`."""
    match statement:
        case Verdict() if statement in _VERDICTS:
            return ["-j", _VERDICTS[statement]]
        case Jump(target, goto):
            return ["-g" if goto else "-j", chain_name(target)]
        case Reject(kind, code) if (kind, code) in _REJECTS:
            return ["-j", "REJECT", "--reject-with", _REJECTS[kind, code]]
        case Nat(NatKind.MASQUERADE, None, None, "") if not statement.flags:
            return ["-j", "MASQUERADE"]
        case Log():
            return _log(statement)
        case Assign():
            return _assign(statement)
        case _:
            raise UnsupportedError(f"iptables can't do this: {statement}")


def _matches(rule: Rule) -> list[str]:
    """Return the rule's matches; what belongs to one module stands behind one `-m`."""
    # `--ctstate SNAT,DNAT` asks for both at once.
    translated = any(isinstance(each, Match) and each.left == Ct("status") for each in rule.statements)
    parts = [
        match_words(each) if isinstance(each, Match) else limit_words(each)
        for each in rule.statements
        if isinstance(each, Match | Limit) and not (each == _ANY_CONNECTION and translated)
    ]
    headers = [each[each[0] == "!"] for each in parts]
    own = [each for each in headers if len(each) == 2 and each != "-m"]
    if len(own) != len(set(own)):
        raise UnsupportedError("iptables takes each option of its own once in a rule")
    words: list[str] = []
    for module, alike in groupby(parts, key=lambda each: " ".join(each[:2])):
        for index, each in enumerate(alike):
            words += each[2:] if index and module in _MERGED else each
    return words


def _comment(text: str) -> list[str]:
    return ["-m", "comment", "--comment", _quoted(text, "comment")] if text else []


def _quoted(text: str, kind: str) -> str:
    if len(text.encode()) > _LONGEST[kind] or not text.isprintable() or '"' in text or "\\" in text:
        raise UnsupportedError(f"iptables can't take {text!r} as a {kind}")
    return text if _PLAIN.fullmatch(text) else f'"{text}"'


def _log(log: Log) -> list[str]:
    if log.snaplen is not None or log.queue_threshold is not None or (log.group is not None and log.flags):
        raise UnsupportedError(f"iptables can't log so: {log}")
    if log.group is not None:
        prefix = ["--nflog-prefix", _quoted(log.prefix, "nflog-prefix")] if log.prefix else []
        return ["-j", "NFLOG", *prefix, "--nflog-group", str(log.group)]
    if log.flags:
        raise UnsupportedError(f"iptables can't log so: {log}")
    words = ["-j", "LOG"]
    if log.prefix:
        words += ["--log-prefix", _quoted(log.prefix, "log-prefix")]
    if log.level:
        words += ["--log-level", _LEVELS.get(log.level, log.level)]
    return words


def _assign(assign: Assign) -> list[str]:
    match assign.target, assign.value:
        case Payload("ip" | "ip6", field), int(value) if field in _WRITTEN:
            target, option = _WRITTEN[field]
            return ["-j", target, option, str(value)]
        case Meta("mark") | Ct("mark", "") as target, int(value):
            return _written(target, value, ALL_BITS)
        case Meta("mark") | Ct("mark", "") as target, Binary(BitOp.XOR, left, int(value)):
            of, kept = number_and_mask(left)  # type: ignore[arg-type] # a number is refused there
            if of == target:
                return _written(target, value, ALL_BITS ^ kept)
    raise UnsupportedError(f"iptables can't write this: {assign}")


def _written(target: Meta | Ct, value: int, mask: int) -> list[str]:
    return ["-j", "MARK" if isinstance(target, Meta) else "CONNMARK", "--set-xmark", f"{value:#x}/{mask:#x}"]
