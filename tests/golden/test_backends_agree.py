"""The lock as iptables has it, for every golden policy: read back as written, taken by both engines, proved equal to nftables'.

A policy that iptables can't say is refused by `check`, with the setting and the remedy, and the emitter refuses it too.
"""

from __future__ import annotations

import dataclasses
import subprocess

import pytest

from failshut.audit.difference import IP_WAYS, difference
from failshut.audit.predicate import FieldIn, Is, Not, When, both, either
from failshut.audit.world.allowed import world_of
from failshut.audit.world.granted import as_granted
from failshut.config.declaration import Declaration
from failshut.config.policy_file import parse
from failshut.config.resolve import resolve
from failshut.emit.iptables import CantSayError, complete_text, live_text
from failshut.emit.nft import emit
from failshut.host.sources import fetch
from failshut.lower import lower
from failshut.lower.iptables import lower_iptables
from failshut.model.finding import Code
from failshut.model.iptables import Standing
from failshut.model.ruleset import ChainType, Family, Jump, Match, Payload, Rule, Ruleset, Verdict
from failshut.read.iptables import read_save
from failshut.read.iptables.own import own, standing
from failshut.read.nft.text import read_text
from golden_cases import CASES, load_case
from iptables_rules import ALONE, programs

FAMILIES = (Family.IP, Family.IP6)
# What iptables can't say: case → the places of the settings that `check` names.
UNSAID = {
    "captive_portal": {"portal"},
    "on_demand": {"on_demand"},
    "pins_of_programs": {"cgroup"},
}
SAYABLE = [case for case in CASES if case.name not in UNSAID]
by_name = pytest.mark.parametrize("case", SAYABLE, ids=lambda case: case.name)


def texts_of(case) -> dict[Family, str]:
    """Return both files of a case."""
    rules = lower_iptables(*load_case(case))
    return {family: complete_text(rules, family) for family in FAMILIES}


def read(texts: dict[Family, str]) -> Ruleset:
    """Read the files; nothing in them may be unclear."""
    readings = [read_save(text, "rules", family) for family, text in texts.items()]
    assert not [each.findings or each.approximations for each in readings if each.findings or each.approximations]
    return Ruleset(tuple(table for each in readings for table in each.ruleset.tables))


@by_name
def test_what_is_written_is_read_back_as_it_was_compiled(case):
    """The emitter and the reader know nothing of each other, and agree on every rule."""
    wanted = lower_iptables(*load_case(case))

    assert own(read(texts_of(case))).canonical() == own(wanted).canonical()


# Loads the file over an empty kernel and over itself, as arming does, and says what the kernel has then.
LOADED_TWICE = "{program}-restore && {program}-restore -w 5 --noflush <<'END' && {program}-save\n{again}\nEND"


@pytest.mark.parametrize("program", programs(), ids=lambda each: each.name)
@pytest.mark.parametrize("name", ["guide", "local_bridges", "tailscale", "forward_into_the_tunnel", "many_outside_prefixes"])
def test_both_engines_take_it_and_list_it_as_it_was_compiled(name, program):
    """Real programs and the real kernel: loaded, loaded over itself, and listed."""
    case = next(each for each in CASES if each.name == name)
    wanted = lower_iptables(*load_case(case))
    first = complete_text(wanted, program.family)
    again = live_text(wanted, program.family, standing(Ruleset(read_save(first, "rules", program.family).ruleset.tables)))

    script = LOADED_TWICE.format(program=program.name, again=again)
    done = subprocess.run([*ALONE, "sh", "-c", script], input=first, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    listed = own(read_save(done.stdout, "listed", program.family).ruleset).canonical()
    assert listed == own(Ruleset(tuple(each for each in wanted.tables if each.family is program.family))).canonical()


def without_translation(ruleset: Ruleset) -> Ruleset:
    """Leave out the chains that translate: both backends have the same, and which address a known connection has is in no rule."""
    return Ruleset(
        tuple(
            dataclasses.replace(
                table, chains=tuple(each for each in table.chains if not each.base or each.base.type is not ChainType.NAT)
            )
            for table in ruleset.tables
        )
    )


# iptables refuses every IPv4 header with options, where nftables looks for source routes; and, where the lock translates, a
# connection that is translated: it judges the source before.
PLAIN = both(
    either(Is(Match(Payload("ip", "hdrlength"), 5), When.START), Not(FieldIn("nfproto", 8, (2,)))),
    # Of its status no rule asks for more than whether it is translated.
    FieldIn("ct status", 32, (0,)),
)


def both_backends(case) -> tuple[Ruleset, Ruleset]:
    """Return nftables' IP layer and iptables' rules, each as it is read."""
    nft = read_text(emit(lower(*load_case(case))), "lock.nft").ruleset
    inet = Ruleset(tuple(each for each in nft.tables if each.chains and each.family is Family.INET))
    return without_translation(as_granted(inet)), without_translation(read(texts_of(case)))


@by_name
def test_the_audit_proves_that_both_backends_let_out_the_same(case):
    """No packet of IP leaves by iptables that nftables holds, nor the other way round but for what is said above."""
    nft, iptables = both_backends(case)

    found = difference(nft, iptables, world_of(*load_case(case)), IP_WAYS, PLAIN)

    assert [str(each.witnesses) for each in found.opened] == []
    assert [str(each.witnesses) for each in found.closed] == []


def test_a_rule_too_much_or_too_few_is_found():
    """The control: a lock with one refusal turned into a permission differs, and so does one that lost an allowance."""
    case = next(each for each in CASES if each.name == "guide")
    nft, iptables = both_backends(case)
    world = world_of(*load_case(case))

    def changed(turn) -> Ruleset:
        return Ruleset(
            tuple(
                dataclasses.replace(
                    table,
                    chains=tuple(dataclasses.replace(each, rules=tuple(map(turn, each.rules))) for each in table.chains),
                )
                for table in iptables.tables
            )
        )

    open_ = changed(lambda each: Rule((Verdict.ACCEPT,)) if each.comment == "shut" else each)
    shut = changed(
        lambda each: dataclasses.replace(each, statements=(*each.statements[:-1], Verdict.DROP)) if "lan" in each.comment else each
    )

    assert difference(nft, open_, world, IP_WAYS, PLAIN).opened
    assert difference(nft, shut, world, IP_WAYS, PLAIN).closed


@pytest.mark.parametrize("name", sorted(UNSAID))
def test_what_iptables_cant_say_is_refused_by_name(name):
    """`check` names each setting and what to write instead; the compiler leaves nothing out in silence."""
    case = next(each for each in CASES if each.name == name)
    text = (case / "policy.toml").read_text() + '\n[backend]\nuse = "iptables"\n'
    declaration = parse(text, "policy.toml")
    assert isinstance(declaration, Declaration)

    checked = resolve(declaration, dataclasses.replace(fetch(declaration), cgroups=frozenset(declaration.cgroups)))

    refused = [each for each in checked.findings if each.code is Code.BACKEND_CANT]
    assert checked.policy is None
    assert {word for word in UNSAID[name] if any(word in each.source for each in refused)} == UNSAID[name]
    assert all(each.is_error and each.place.line and "nftables" in each.help for each in refused)
    with pytest.raises(CantSayError) as error:
        complete_text(lower_iptables(*load_case(case)), Family.IP)
    assert error.value.rules


def test_the_lock_of_an_initramfs_is_refused_by_name():
    """It is nftables' alone: ignored in silence, a network in the initramfs would be open."""
    case = next(each for each in CASES if each.name == "minimal")
    text = (case / "policy.toml").read_text() + '\n[backend]\nuse = "iptables"\n\n[boot]\ninitramfs = true\n'
    declaration = parse(text, "policy.toml")

    found = resolve(declaration, fetch(declaration)).findings

    assert [(each.code, "initramfs" in each.source) for each in found if each.is_error] == [(Code.BACKEND_CANT, True)]


def test_our_chains_come_first_and_leave_the_users_rules_a_say():
    """The kernel's chains jump to ours before anything else, and no rule of ours accepts for good."""
    rules = lower_iptables(*load_case(CASES[0]))

    for table in rules.tables:
        for chain in table.chains:
            if chain.base:
                assert all(isinstance(each, Jump) for rule in chain.rules for each in rule.statements)
            else:
                assert not any(each is Verdict.ACCEPT for rule in chain.rules for each in rule.statements)
    assert "-I POSTROUTING 1 -j FAILSHUT-LEAVING" in live_text(rules, Family.IP, Standing())
