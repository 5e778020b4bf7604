"""Many policies in one process: `check POLICY...`, and `plan POLICY... --against DIRECTORY`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from failshut.cli.session import Failure, Session, finding_json, report
from failshut.model.exits import Exit
from failshut.model.units import InterfaceName

if TYPE_CHECKING:
    from failshut.config.declaration import Checked
    from failshut.model.pin import Pin
    from failshut.model.policy import Policy
    from failshut.model.ruleset import Ruleset

# Stands for every host's underlay device.
_DEVICE = InterfaceName("eth0")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a policy would change on its host; `difference` is a unified diff of the rules."""

    path: str
    checked: Checked
    difference: tuple[str, ...] = ()


def check_many(paths: Iterable[str], session: Session, *, strict: bool) -> None:
    """Check every policy, and say what is wrong with which. Leaves with `Exit.USAGE` when one of them is not sound."""
    found = [Outlook(path, checked) for path, checked in _loaded(paths)]
    failed = [each for each in found if each.checked.policy is None or (strict and each.checked.findings)]
    if session.json:
        session.print_json(
            {"ok": not failed, "policies": [{**_json(each), "ok": each not in failed} for each in found]},
        )
    else:
        for each in found:
            report(each.checked.findings, session)
        click.echo(f"{len(found)} policies: {len(found) - len(failed)} sound, {len(failed)} not", err=bool(failed))
    if failed:
        raise click.exceptions.Exit(Exit.USAGE)


def plan_many(paths: Iterable[str], against: Path, session: Session, *, exit_code: bool) -> None:
    """Show how the lock of each policy differs from that of the policy of the same name in `against`."""
    found = list(_outlooks(paths, against))
    wrong = [each for each in found if each.checked.policy is None]
    changed = [each for each in found if each.difference]
    if session.json:
        hosts = [{**_json(each), "changes": bool(each.difference), "kernel": list(each.difference)} for each in found]
        session.print_json({"ok": not wrong, "changes": bool(changed), "policies": hosts})
    else:
        for each in found:
            report(each.checked.findings, session)
            if each.difference:
                click.echo("\n".join((f"{each.path}:", *each.difference, "")))
        click.echo(f"{len(found)} policies: {len(changed)} locks would change, {len(wrong)} are not sound", err=bool(wrong))
    if wrong:
        raise click.exceptions.Exit(Exit.USAGE)
    if exit_code and changed:
        raise click.exceptions.Exit(Exit.CHANGES)


def _outlooks(paths: Iterable[str], against: Path) -> Iterator[Outlook]:
    from failshut.host.sources import load_policy

    if not against.is_dir():
        raise Failure(f"{against} is no directory", help="name the one with the policies as they are", exit_code=Exit.USAGE)
    for path, checked in _loaded(paths):
        if checked.policy is None:
            yield Outlook(path, checked)
            continue
        earlier = against / Path(path).name
        before = load_policy(str(earlier), pins=_pins(checked)).policy if earlier.exists() else None
        yield Outlook(path, checked, _difference(before, checked.policy))


def _difference(before: Policy | None, after: Policy) -> tuple[str, ...]:
    from failshut.arming.kernel.compare import canonical_text, difference
    from failshut.model.ruleset import Ruleset

    old, new = (_lock(before) if before else Ruleset(())), _lock(after)
    return () if old == new else difference(canonical_text(old), canonical_text(new))


def _lock(policy: Policy) -> Ruleset:
    """Return a policy's lock on a host of which nothing is known."""
    from failshut.lower import lower
    from failshut.model.host import HostFacts, LiveTunnel, WireGuardKind

    tunnels = {each: LiveTunnel(WireGuardKind.KERNEL) for each in policy.interfaces}
    return lower(policy, HostFacts(underlay=(_DEVICE,), tunnels=tunnels))


def _loaded(paths: Iterable[str]) -> Iterator[tuple[str, Checked]]:
    """Yield every policy; a name that one of them looked up is not looked up again."""
    from failshut.host.sources import load_policy

    known: dict[str, Pin] = {}
    for path in paths:
        checked = load_policy(path, pins=known)
        known.update(_pins(checked))
        yield path, checked


def _pins(checked: Checked) -> Mapping[str, Pin]:
    return {each.host: each for each in (checked.policy.pins if checked.policy else ())}


def _json(outlook: Outlook) -> dict[str, object]:
    return {"policy": outlook.path, "findings": [finding_json(each) for each in outlook.checked.findings]}
