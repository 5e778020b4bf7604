"""What an audit is given: files, what a script makes, or what the running kernel holds."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from failshut.cli.session import Failure, Session, refuse
from failshut.model.exits import Exit
from failshut.model.finding import Code, Finding, Place, Severity

if TYPE_CHECKING:
    from failshut.drill.replay.rules import Rules
    from failshut.drill.scripted.run import Ran
    from failshut.host.filter.rules import RunningRules
    from failshut.read.files.scripts import Script
    from failshut.read.reading import Reading

# What is longer is no ruleset: 100,000 rules have a tenth of it.
MOST = 128 << 20
_NOT_THERE = "it has no network here, and a copy of /etc; what it could not do is not in the rules"
# What iptables adds to each of its complaints.
_USAGE = re.compile(r"Try `\S+ -h'")
_NO_PROGRAM = re.compile(r"\b(ufw|firewall-cmd|ipset|ip6?tables[\w-]*|nft|ferm|shorewall): (?:command )?not found")
# What a script missed: its rules may be made of it. Nft says the same of a table that it was told to delete.
_MISSED = re.compile(r"(?m)^(?!.*\bError\b).*?(?:No such file or directory|(?P<program>\S+): (?:command )?not found)\s*$")
# What says or ends something, and finds out nothing.
_HARMLESS = {
    *("clear", "conntrack", "figlet", "killall", "logger", "lolcat", "netfilter-persistent", "notify-send", "pkill", "reboot"),
    *("resolvconf", "resolvectl", "service", "tput"),
}
_ONLY_ROUTES = re.compile(
    rb"(?s)\A(?!.*\b(?:ip6?tables|nft|ufw|firewall-cmd)\b).*\bip (?:-[46] )?(?:route|rule) (?:add|replace|append)\b"
)
_NO_NAMESPACE = re.compile(r"/run/netns|network namespace")
_NO_RULES = (
    "what follows the script on the command line are its arguments, such as `up` or `enable`; nothing else of it is known here"
)
_PRINTED = "`iptables-save`, `ip6tables-save` and `nft list ruleset`"
_NO_PROGRAM_HERE = f"{{}} is not installed here: run this where it is, or give what {_PRINTED} print there"
_NAMESPACES = f"a script can't make network namespaces here: run it, and give what {_PRINTED} print by `ip netns exec NAME`"
_ENDS_OF_LINES = "its lines end with CR LF, as Windows writes them, and nothing runs it so: `sed -i 's/\\r$//' FILE` mends that"
_ROUTES = "it refuses nothing, and routes are not judged: when one is lost, or a program names its device, everything leaves"


@dataclass(frozen=True, slots=True)
class Given:
    """What was read, and how a replay gets the rules themselves. `accounts` are the numbers that names had for a script."""

    reading: Reading
    rules: Callable[[], Rules]
    accounts: dict[str, int] = field(default_factory=dict)


def given_by(files: tuple[str, ...], script: str | None, session: Session) -> Given:
    """Return what is to be audited: of the files, of the script, or, without either, of the running kernel."""
    if script:
        return _scripted(script, files)
    return read_files(files, session) if files else _running()


def read_files(files: tuple[str, ...], session: Session) -> Given:
    """Return the ruleset that some files make together. Leaves where one of them is none."""
    from failshut.read import read_rulesets
    from failshut.read.files.joined import together

    def rules() -> Rules:
        from failshut.drill.replay.rules import of_files

        return of_files(texts)

    texts = [(each, _text(each)) for each in files]
    readings = zip(read_rulesets(texts), texts, strict=True)
    reading = together([_with_refusal(each, name, text) for each, (name, text) in readings])
    nothing = not reading.is_whole and not _has_hooks(reading)
    if nothing or any(each.code is Code.RULES_UNREADABLE for each in reading.findings):
        refuse(reading.findings, session, "audit")
    return Given(reading, rules)


def _has_hooks(reading: Reading) -> bool:
    """Whether any packet meets a rule: an answer could be about nothing else."""
    return any(chain.base for table in reading.ruleset.tables for chain in table.chains)


def _with_refusal(reading: Reading, name: str, text: bytes) -> Reading:
    """Add what this machine's nft says of a text of its own that was read and that it can't read."""
    from failshut.host.filter.rules import nft_refusal
    from failshut.model.ruleset import Engine

    is_nft = {each.engine for each in reading.ruleset.tables} == {Engine.NFT} and text.lstrip()[:1] != b"{"
    refusal = nft_refusal(text) if is_nft and reading.is_whole else None
    if refusal is None:
        return reading
    line = text.decode("utf-8", "replace").splitlines()[refusal.line - 1 : refusal.line]
    finding = Finding(
        Code.RULES_UNCLEAR,
        f"this machine's nft does not load it ({refusal.words}); it is judged as if it were loaded",
        Place(name, refusal.line, refusal.column),
        "rules that are not loaded hold nothing: `nft -c -f` shows the place",
        Severity.WARNING,
        "".join(line),
    )
    return replace(reading, findings=(*reading.findings, finding))


def _text(file: str) -> bytes:
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as source:
            text = source.read(MOST + 1)
    except OSError as error:
        code = Exit.UNKNOWN if isinstance(error, PermissionError) else Exit.USAGE
        raise Failure(f"{file}: {error.strerror}", exit_code=code) from error
    if len(text) > MOST:
        raise Failure(f"{file}: this has more than {MOST >> 20} MiB, and no ruleset has", exit_code=Exit.USAGE)
    return text


def _running() -> Given:
    from failshut.host.filter.rules import RulesError, running_rules

    try:
        return _listed(running_rules())
    except RulesError as error:
        code = Exit.UNKNOWN if error.permission else Exit.FAILED
        raise Failure(f"the kernel's rules can't be read: {error}", help="Run it as root.", exit_code=code) from error


def _listed(rules: RunningRules) -> Given:
    from failshut.model.ruleset import Engine, Family, Ruleset
    from failshut.read.files.joined import joined, with_remarks_of
    from failshut.read.iptables import read_save
    from failshut.read.iptables.ipset import IpSets, changed_by, read_ipsets
    from failshut.read.iptables.remarks import Remarks
    from failshut.read.nft.text import read_text
    from failshut.read.reading import Reading
    from failshut.read.visible import visible

    listed = read_text(visible(rules.nft), "nft list ruleset")
    dump = visible(rules.ipsets or "")
    remarks = Remarks("ipset save", dump.split("\n"))
    sets = IpSets(read_ipsets(dump, remarks), changed_by(visible(text) for _, _, text in rules.saves), rules.ipsets is not None)
    saved = [
        read_save(visible(text), name, Family(family), Engine.IPTABLES_LEGACY if "legacy" in name else Engine.IPTABLES_NFT, sets)
        for name, family, text in rules.saves
        # What an engine does not hold, it does not list.
        if text.strip()
    ]
    whole = joined(listed.ruleset, [each.ruleset for each in saved])

    def loaded() -> Rules:
        from failshut.drill.replay.rules import of_kernel

        return of_kernel(rules, whole)

    of_sets = Reading(Ruleset(), remarks.all())
    return Given(with_remarks_of([listed, of_sets, *saved], whole), loaded)


def _scripted(file: str, arguments: tuple[str, ...]) -> Given:
    """Run a script where it harms nothing, and return what its kernel holds."""
    from failshut.drill.scripted.run import rules_of_script
    from failshut.drill.workers.process import CannotDrillError
    from failshut.read.files.scripts import script_of

    script = script_of(_text(file).decode("utf-8", errors="replace"), file)
    if script is None:
        raise Failure(f"{file}: there is nothing in it to be run", help="give a ruleset without --run", exit_code=Exit.USAGE)
    if os.geteuid() != 0:
        raise Failure("--run needs root: it builds namespaces for the script", help="Run it with sudo.", exit_code=Exit.UNKNOWN)
    try:
        ran = rules_of_script(replace(script, arguments=arguments))
    except CannotDrillError as error:
        raise Failure(str(error), exit_code=Exit.UNKNOWN) from error
    given = _listed(ran.rules)
    complaints = (*_complaints(ran, file), *_looked_up(script, file))
    if not _has_hooks(given.reading):
        said = "".join(f": {each.message}" for each in complaints)
        raise Failure(f"{file}: no rules came of it{said}", help=_remedy(ran, script.text), exit_code=Exit.UNKNOWN)
    reading = replace(given.reading, findings=(*complaints, *given.reading.findings))
    return replace(given, reading=reading, accounts=ran.accounts)


def _looked_up(script: Script, file: str) -> tuple[Finding, ...]:
    """Say which addresses stand for the hosts that a script names."""
    from failshut.drill.scripted.place import stand_ins

    said = ", ".join(f"{name} as {address}" for name, address in stand_ins(script).items())
    message = f"no name is looked up here; it is judged with {said}"
    return (Finding(Code.RULES_SCRIPT, message, Place(file), "", Severity.WARNING),) if said else ()


def _remedy(ran: Ran, text: bytes) -> str:
    """Return what to do about a script that no rules came of."""
    if missing := _NO_PROGRAM.search(ran.said):
        return _NO_PROGRAM_HERE.format(missing[1])
    if text.startswith(b"#!") and b"\r\n" in text:
        return _ENDS_OF_LINES
    if _NO_NAMESPACE.search(ran.said):
        return _NAMESPACES
    return _ROUTES if ran.status == 0 and _ONLY_ROUTES.search(text) else _NO_RULES


def _complaints(ran: Ran, file: str) -> tuple[Finding, ...]:
    """Return what a script said: with an error where rules of it may be missing, so that nothing is called proved."""
    from failshut.read.visible import visible

    lines = dict.fromkeys(each.strip() for each in visible(ran.said).splitlines() if each.strip() and not _USAGE.match(each))
    said = "; ".join(list(lines)[-5:])
    refused = [visible(each) for each in ran.refused]
    if ran.status != 0:
        end = f"it ended with {ran.status}" if ran.status is not None else f"it had not ended after {ran.seconds:.0f} s"
        message = f"the script did not come to a good end: {end}{f', and said: {said}' if said else ''}"
    elif refused:
        which = f"`{refused[0]}` and {len(refused) - 1} more" if refused[1:] else f"`{refused[0]}`"
        message = f"{which} failed here: what would have been added is missing{f'; the script said: {said}' if said else ''}"
    elif said:
        message = f"the script said: {said}"
    else:
        return ()
    missed = any(each["program"] not in _HARMLESS for each in _MISSED.finditer(ran.said))
    whole = ran.status == 0 and not refused and not missed
    return (Finding(Code.RULES_SCRIPT, message, Place(file), _NOT_THERE, Severity.WARNING if whole else Severity.ERROR),)
