"""What an audit says: for a person, as JSON, as SARIF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import click

from failshut.audit.answer.explain import explain, replay_line, shortened
from failshut.audit.answer.result import Answer, Outcome, Replay, Result, Witness
from failshut.audit.netfilter.words import ANY_OTHER
from failshut.audit.question.properties import ASSUMPTIONS, Sense
from failshut.audit.world import World, endpoint_words
from failshut.audit.world.granted import Opened, element_text
from failshut.audit.world.infer import OF_GROUP, sender_words
from failshut.cli.session import Session, finding_json
from failshut.model.finding import Finding
from failshut.model.lock import LOCK_NAME
from failshut.model.ruleset import Engine, Family, Ruleset
from failshut.read.reading import Approximation, Reading

_COLOURS = {
    Answer.LEAK: "red",
    Answer.BROKEN: "red",
    Answer.POSSIBLE: "yellow",
    Answer.REFUTED: "yellow",
    Answer.PROVED: "green",
    Answer.WORKS: "green",
}
_SUMMED = {"LEAK": "leak", "possible": "not decided", "refuted": "refuted", "BROKEN": "broken", "note": "noted"}
_FAMILIES = {4: "IPv4", 6: "IPv6", 0: "other frames"}


def _label(result: Result) -> str:
    if result.question.sense is Sense.NOTE and result.answer in (Answer.LEAK, Answer.POSSIBLE):
        return "note"
    return {Answer.LEAK: "LEAK", Answer.BROKEN: "BROKEN"}.get(result.answer, result.answer.value)


def show(results: tuple[Result, ...], world: World, reading: Reading, session: Session) -> None:
    """Print the verdict, what was found, the worst first, then what was proved."""
    order = {"LEAK": 0, "possible": 1, "refuted": 2, "BROKEN": 3, "note": 4}
    bad = [each for each in results if each.answer not in (Answer.PROVED, Answer.WORKS)]
    click.echo(_verdict(results, world, session, whole=reading.is_whole))
    click.echo(_world_line(world))
    if not world.is_strict and any(each.name == LOCK_NAME for each in reading.ruleset.tables):
        click.echo("these are failshut's own rules: where they are loaded, `failshut audit` judges them by the policy")
    if any(each.is_leak and each.family == 6 for each in results) and _of_one_program(reading.ruleset):
        click.echo("no rule of these is for IPv6: iptables has none, and those of ip6tables are what ip6tables-save prints")
    for name in _unnamed(results):
        click.echo(f"{name} stands for any device that no rule names, such as a phone on USB")
    if world.confined:
        click.echo(f"these rules refuse only what {_senders(world.confined)}: --user {world.confined[0]} judges that alone")
    if world.held:
        click.echo(f"these rules refuse only packets {', '.join(world.held)}: nobody else's are held by them{_judging(world.held)}")
    for each in sorted(bad, key=lambda result: order.get(_label(result), 5)):
        _show_one(each, session)
    for answer in (Answer.PROVED, Answer.WORKS):
        for title in dict.fromkeys(each.question.title for each in results if each.answer is answer):
            families = [_FAMILIES[each.family] for each in results if each.question.title == title and each.answer is answer]
            click.echo(f"{session.style(answer.value, fg='green')}  {title} ({', '.join(families)})")
    click.echo(_sum(results))


def _verdict(results: tuple[Result, ...], world: World, session: Session, *, whole: bool) -> str:
    """Return the answer in one line: whether anything leaks, and what."""
    leaks, doubts = [each for each in results if each.is_leak], [each for each in results if each.is_doubt]
    senders = (
        *((sender_words(world.alone),) if world.alone else ()),
        *((f"{OF_GROUP[3:]} {world.cgroup}",) if world.cgroup else ()),
    )
    whose = f" of {' in '.join(senders)}" if senders else ""
    if leaks:
        return f"{session.style('LEAKS', fg='red', bold=True)}  packets{whose} leave past the tunnel: {_kinds(leaks)}"
    if not whole:
        return f"{session.style('not decided', fg='yellow')}  no leak was found, but the rules could not be read whole"
    if doubts:
        return f"{session.style('not decided', fg='yellow')}  whether packets{whose} leave past the tunnel: {_kinds(doubts)}"
    rest = "the policy allows" if world.is_strict else "is noted below: what the rules open on purpose"
    return f"{session.style('proved', fg='green')}  no packet{whose} leaves past the tunnel but what {rest}"


def _kinds(results: Iterable[Result]) -> str:
    """Return the questions that these answer, each with its families."""
    families: dict[str, list[str]] = {}
    for each in results:
        families.setdefault(each.question.name, []).append(_FAMILIES[each.family])
    return ", ".join(f"{name} ({', '.join(each)})" for name, each in families.items())


def show_open(results: tuple[Result, ...], session: Session) -> None:
    """Print the plain answer for a machine that refuses nothing: a page of witnesses would say no more."""
    label = session.style("LEAK", fg="red", bold=True)
    click.echo(f"{label}  no rule refuses anything: every packet of every program may leave in the clear, with or without a tunnel")
    for each in results:
        if each.is_leak and each.question.name in ("new-flow", "policy"):
            first = each.witnesses[0]
            click.echo(f"  {explain(each, first).packet}")
            if first.replay:
                click.echo(f"    {_replay_line(first.replay, session)}")
    click.echo(_sum(results))


def _of_one_program(ruleset: Ruleset) -> bool:
    """Whether all rules are those of iptables, which has none for IPv6."""
    return {(each.engine is Engine.NFT, each.family) for each in ruleset.tables} == {(False, Family.IP)}


def _unnamed(results: tuple[Result, ...]) -> Iterable[str]:
    """Return the name that stands for devices without one, where a leak's packet has it."""
    packets = (witness.packet for each in results if each.is_leak for witness in each.witnesses)
    names = (packet.get(field) for packet in packets for field in ("iifname", "oifname", "oifname rerouted"))
    return dict.fromkeys(each for each in names if isinstance(each, str) and ANY_OTHER.fullmatch(each))


def _world_line(world: World) -> str:
    unknown = " (assumed: no rule tells which device is one)" if "tunnels" in world.assumed else ""
    parts = [f"tunnel {shortened(world.tunnels)}{unknown}"]
    parts.append(f"endpoint {shortened(endpoint_words(world)) or 'unknown'}")
    if world.lan:
        parts.append(f"local network {shortened(world.lan)}")
    if world.inside and not world.is_strict:
        parts.append(f"guests of this machine behind {shortened(world.inside)}")
    source = "by the policy" if world.is_strict else "inferred where not said; --tunnel, --endpoint, --lan say it"
    return f"{'; '.join(parts)} ({source})"


def _senders(confined: tuple[str, ...]) -> str:
    """Return users and `:groups` in words."""
    words = ", ".join(map(sender_words, confined))
    return f"{words} sends" if len(confined) == 1 else f"{words} send"


def _show_one(result: Result, session: Session) -> None:
    label = _label(result)
    colour = "yellow" if label in ("note", "possible") else _COLOURS[result.answer]
    heading = (
        f"not so: {result.question.title}" if result.question.sense is not Sense.NEED else f"does not hold: {result.question.title}"
    )
    click.echo(f"\n{session.style(label, fg=colour, bold=True)}  {heading} ({_FAMILIES[result.family]})")
    for witness in result.witnesses:
        words = explain(result, witness)
        click.echo(f"  {words.packet}\n    by {words.rule}\n    {words.why}")
        for made in witness.depends:
            click.echo(f"    depends on {made.where}: {made.text}")
        if witness.replay:
            click.echo(f"    {_replay_line(witness.replay, session)}")


def _replay_line(replay: Replay, session: Session) -> str:
    """Return what became of a packet that was sent, its verdict in colour."""
    colour = {Outcome.CONFIRMED: "red", Outcome.REFUTED: "green", Outcome.NOT_REPLAYED: "yellow"}[replay.outcome]
    return session.style(replay.outcome.value, fg=colour) + replay_line(replay).removeprefix(replay.outcome.value)


def _sum(results: tuple[Result, ...]) -> str:
    counts = Counter(_SUMMED.get(_label(each), "hold") for each in results)
    parts = ", ".join(f"{counts[word]} {word}" for word in ("hold", *_SUMMED.values()) if counts[word])
    outcomes = Counter(each.replay.outcome for result in results for each in result.witnesses if each.replay)
    sent = ", ".join(f"{outcomes[each]} {each}" for each in Outcome if outcomes[each])
    return f"\n{len(results)} questions: {parts}" + (f"\n{outcomes.total()} packets: {sent}" if sent else "")


def show_opened(open_now: Iterable[Opened], session: Session) -> None:
    """Print what somebody opened for a time: allowed while it is listed, and never passed over."""
    for each in open_now:
        click.echo(f"{session.style('opened', fg='yellow' if each.is_bounded else 'red')}  {each}")


def show_rest(made: Iterable[Approximation], results: tuple[Result, ...], verbose: bool) -> None:
    """Print what was approximated and, when asked, what no proof over rules can speak of."""
    listed = {f"{each.place}: {each.text}: {each.assumed}": None for each in made}
    listed |= {f"{each.where}: {each.text}: may be anything": None for result in results for each in result.approximations}
    for line in listed:
        click.echo(f"approximated  {line}")
    for each in ASSUMPTIONS if verbose else ():
        click.echo(f"assumed  {each}")


def witness_json(result: Result, witness: Witness) -> dict[str, Any]:
    """Return a witness as JSON."""
    words, step = explain(result, witness), witness.culprit
    origin = step.rule.origin if step and step.rule else None
    return {
        "packet": words.packet,
        "rule": words.rule,
        "file": origin.file if origin else "",
        "line": origin.line if origin else 0,
        "why": words.why,
        "certain": witness.certain,
        "fields": {name: value for name, value in sorted(witness.packet.items()) if " at " not in name},
        "replay": _replay_json(witness.replay),
        "depends_on": [{"where": each.where, "text": each.text} for each in witness.depends],
    }


def _replay_json(replay: Replay | None) -> dict[str, Any] | None:
    if replay is None:
        return None
    return {
        "verdict": replay.outcome.value,
        "captured": replay.captured,
        "packets": replay.packets,
        "happened": replay.happened,
    }


def result_json(result: Result) -> dict[str, Any]:
    """Return one answer as JSON."""
    return {
        "property": result.question.name,
        "title": result.question.title,
        "family": result.family,
        "sense": result.question.sense.value,
        "answer": result.answer.value,
        "witnesses": [witness_json(result, each) for each in result.witnesses],
        "approximations": [{"where": each.where, "text": each.text} for each in result.approximations],
    }


def _judging(held: tuple[str, ...]) -> str:
    """Return how those packets alone are judged, where there is a way."""
    groups = (each.removeprefix(f"{OF_GROUP} ") for each in held if each.startswith(OF_GROUP))
    group = next(groups, "")
    return f"; --cgroup {group} judges that alone" if group else ""


def audit_json(
    results: tuple[Result, ...], world: World, findings: tuple[Finding, ...], open_now: Iterable[Opened] = ()
) -> dict[str, Any]:
    """Return the whole audit as JSON."""
    return {
        "ok": not any(each.is_leak or each.is_doubt for each in results),
        "world": {
            "tunnels": list(world.tunnels),
            "endpoints": [str(each) for each in world.endpoints],
            "lan": [str(each) for each in world.lan],
            "inside": list(world.inside),
            "by_policy": world.is_strict,
            "user": world.alone or None,
            "cgroup": world.cgroup or None,
            "confined": list(world.confined),
            "held": list(world.held),
            "assumed": list(world.assumed),
        },
        "works": not any(each.answer is Answer.BROKEN for each in results),
        "opened": [
            {
                "set": each.set,
                "element": element_text(each.element),
                "timeout": each.timeout or None,
                "left": each.left,
                "allowed": each.is_bounded,
            }
            for each in open_now
        ],
        "properties": [result_json(each) for each in results],
        "assumptions": list(ASSUMPTIONS),
        "findings": [finding_json(each) for each in findings],
    }


def sarif(results: tuple[Result, ...]) -> dict[str, Any]:
    """Return the leaks, the doubts and what does not work as a SARIF 2.1.0 log, for code scanning."""
    found = [(each, witness) for each in results if each.is_leak or each.is_doubt for witness in each.witnesses]
    broken = [_sarif_broken(each) for each in results if each.answer is Answer.BROKEN]
    questions = {each.question.name: each.question for each in results}
    rules = [
        {"id": name, "shortDescription": {"text": asked.title}, "fullDescription": {"text": asked.because or asked.title}}
        for name, asked in questions.items()
    ]
    driver = {"name": "failshut", "informationUri": "https://www.netfilter.org/projects/nftables/", "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [*(_sarif_result(*each) for each in found), *broken]}],
    }


def _sarif_result(result: Result, witness: Witness) -> dict[str, Any]:
    words, step = explain(result, witness), witness.culprit
    origin = step.rule.origin if step and step.rule else step.stop.chain.origin if step else None
    out: dict[str, Any] = {
        "ruleId": result.question.name,
        "level": "error" if result.is_leak else "warning",
        "message": {"text": f"{words.packet}: {words.why}"},
    }
    if witness.replay:
        out["properties"] = {"replay": _replay_json(witness.replay)}
        if witness.replay.outcome is Outcome.REFUTED:
            out["level"] = "note"
    if origin:
        region = {"startLine": origin.line}
        out["locations"] = [{"physicalLocation": {"artifactLocation": {"uri": origin.file}, "region": region}}]
    return out


def _sarif_broken(result: Result) -> dict[str, Any]:
    # No rule is to blame alone for what none of them accepts.
    text = f"does not hold: {result.question.title} ({_FAMILIES[result.family]})"
    return {"ruleId": result.question.name, "level": "warning", "message": {"text": text}}
