"""The choke point shut for all but loopback: before a first load, and for a boot that finds no whole lock."""

from __future__ import annotations

from failshut.lower.iptables.places import HOOKED
from failshut.lower.rules import OIFNAME, is_, rule
from failshut.model.iptables import base
from failshut.model.ruleset import Chain, Engine, Family, Jump, Rule, Ruleset, Table, Verdict

_LEAVING = HOOKED["postrouting"]


def everything() -> Ruleset:
    """Return the lock that drops everything."""
    own = Chain(_LEAVING.own, (rule("loopback", is_(OIFNAME, "lo"), Verdict.RETURN), rule("everything", Verdict.DROP)))
    hook = Chain(_LEAVING.chain, (Rule((Jump(own.name),)),), base(_LEAVING.table, _LEAVING.chain, Verdict.ACCEPT))
    tables = (Table(family, _LEAVING.table, (hook, own), engine=Engine.IPTABLES_NFT) for family in (Family.IP, Family.IP6))
    return Ruleset(tuple(tables))
