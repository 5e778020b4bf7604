"""Keeps the lock as it was armed: what another program changed is put back, and a new device gets the layer under IP.

Two doorbells (`host.doorbells`), one worker. A table that is gone is loaded at once, without a look; everything else is looked at
first, and what is as it should be is left alone, whoever loaded it. While `arm` or `disarm` is at work nothing is done.
The guard (`boot/files/load`) puts back a lock that is gone by itself; whoever comes second finds it there.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from failshut.arming.armed.status import read_status
from failshut.arming.boot.generations import EGRESS_FILE, LOCK_FILE
from failshut.boot.places import ARMING_LOCK, LOADER
from failshut.host import locks
from failshut.host.files import PRIVATE_FILE
from failshut.host.filter import nft
from failshut.host.network import doorbells
from failshut.host.network.links import underlay_devices
from failshut.host.run import NoAnswerError, run
from failshut.lower.egress import chain_name
from failshut.model.lock import LOCK_NAME, LockState
from failshut.model.units import InterfaceName
from failshut.monitor.lock.armed import Armed, current_generation, load_armed
from failshut.monitor.lock.drift import Drift, describe, describe_changes, uneven
from failshut.monitor.lock.listings import (
    Table,
    can_be_later,
    deviations,
    devices_in,
    for_devices,
    own_devices,
    table_of,
    without_strangers,
)
from failshut.monitor.lock.loading import Shelf, listing
from failshut.monitor.places import Places, put
from failshut.monitor.state import Kind

_T = TypeVar("_T")
Tell = Callable[[Kind, str, dict[str, str]], None]
# In seconds: how long the kernel may take for a transaction; how often to look whether an arming has ended.
_PATIENCE, _LOOK = 2.0, 0.05
_UNDER_IP: Table = ("netdev", LOCK_NAME)
# By the warm nft, then by the loader with its other locks, then only said.
_WARM_TRIES, _TRIES = 2, 4


@dataclass(slots=True)
class Keeper:
    """The lock's keeper. `tell` hears of events, `changed` that it knows something else, `tunnel_changed` of tunnels' devices."""

    places: Places
    tell: Tell
    changed: Callable[[], None]
    tunnel_changed: Callable[[], None]
    executor: Executor
    # For what nothing waits for.
    errands: Executor
    lock: LockState = LockState.UNKNOWN
    reason: str = ""
    underlay: tuple[str, ...] = ()
    under_ip: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    drifts: int = 0
    restored_ms: float | None = None
    armed: Armed | None = None
    links: doorbells.Links = field(default_factory=doorbells.Links)
    # Whether anything is known yet.
    known: asyncio.Event = field(default_factory=asyncio.Event)
    _rules: doorbells.Rules = field(default_factory=doorbells.Rules)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _settled: asyncio.Event = field(default_factory=asyncio.Event)
    _to_check: set[Table] = field(default_factory=set)
    _baseline: dict[Table, str] = field(default_factory=dict)
    _drift: Drift | None = None
    _hooked: set[tuple[str, int]] = field(default_factory=set)
    # When the kernel said that a device is there, by its name.
    _news: dict[str, float] = field(default_factory=dict)
    # What the loader was told; at first nobody knows what another monitor has left there.
    _told: tuple[str, ...] | None = None
    _shelf: Shelf = field(init=False)
    _strangers: str = ""
    _tunnels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _link_socket: socket.socket | None = None
    _rule_socket: socket.socket | None = None

    def __post_init__(self) -> None:
        self._shelf = Shelf(self.places.private, self.errands)

    async def run(self) -> None:
        """Listen and keep until cancelled. Raises PermissionError without CAP_NET_ADMIN."""
        loop = asyncio.get_running_loop()
        self._rule_socket = doorbells.open_rules()
        self._listen_to_links()
        loop.add_reader(self._rule_socket, self._hear_rules)
        self._shelf.nft.start()
        self._check_everything()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._work()
        finally:
            loop.remove_reader(self._rule_socket)
            self._rule_socket.close()
            self._close_links()
            self._shelf.nft.close()

    def is_busy(self) -> bool:
        """Whether `arm`, `disarm` or the timer that undoes an arming is at work."""
        return locks.is_held(ARMING_LOCK)

    def _listen_to_links(self) -> None:
        self._close_links()
        self.links = doorbells.Links()
        self._link_socket = doorbells.open_links()
        asyncio.get_running_loop().add_reader(self._link_socket, self._hear_links)

    def _close_links(self) -> None:
        if self._link_socket:
            asyncio.get_running_loop().remove_reader(self._link_socket)
            self._link_socket.close()
            self._link_socket = None

    def _hear_links(self) -> None:
        now = time.monotonic()
        try:
            if self._link_socket and self.links.receive(self._link_socket) and self.links.complete:
                self._look_at_tunnels()
                self._look_at_devices(now)
        except doorbells.LostError:
            self._listen_to_links()

    def _hear_rules(self) -> None:
        now = time.monotonic()
        try:
            for each in self._rules.receive(self._rule_socket) if self._rule_socket else ():
                self._heard(each, now)
        except doorbells.LostError:
            self._check_everything()

    def _heard(self, transaction: doorbells.Transaction, now: float) -> None:
        ours = [each for each in transaction.changes if each.table == LOCK_NAME and each.what != "element"]
        if not ours:
            return
        fate = {(each.family, each.table): each.verb for each in ours if each.what == "table"}
        gone = {table for table, verb in fate.items() if verb == "delete" and table in self._baseline}
        if any(each.verb == "new" and each.what == "rule" for each in ours):
            self._settled.set()
            if self._drift:
                self._drift.restored = now
        self._to_check |= {(each.family, each.table) for each in ours}
        odd: Mapping[doorbells.Change, int] = {}
        if self._drift is None:
            # At once: whoever it was may be gone in a moment.
            self._drift = Drift(now, describe(transaction))
            # A load of ours takes as many rules out of a chain as it puts in.
            odd = {} if gone else uneven(transaction.changes, LOCK_NAME)
            self._drift.lines = tuple(describe_changes(odd))
        self._drift.removed |= bool(gone)
        # Before the look, which takes longer than the load. Nothing of ours ever takes a table away: the count begins anew.
        if (gone or odd) and not self.is_busy():
            self._drift.tries = 1
            self._put_back(gone or {(each.family, each.table) for each in odd})
        self._wake.set()

    def _check_everything(self) -> None:
        self._to_check |= set(self._baseline)
        self._wake.set()

    def _look_at_tunnels(self) -> None:
        names = self.armed.record.tunnels if self.armed else ()
        tunnels = {each["ifname"]: each["flags"] for each in self.links.listed() if each["ifname"] in names}
        if tunnels != self._tunnels:
            self._tunnels = tunnels
            self.tunnel_changed()

    def _look_at_devices(self, now: float) -> None:
        """Have each underlay device held that is not yet; `now` is when the kernel told of it."""
        if self.armed is None:
            return
        listed = self.links.listed()
        there = {(each["ifname"], each["ifindex"]) for each in listed}
        self.underlay = underlay_devices(listed, self.armed.not_underlay, self.armed.record.bridges, self.armed.record.routed)
        self._hooked &= there
        held = {name for name, _ in self._hooked}
        new = [each for each in self.underlay if each not in held]
        own = own_devices(self.armed.egress)
        self._remember([each for each in self.underlay if each not in own])
        self._lay_out()
        if not self.armed.record.under_ip or not can_be_later(self.armed.egress):
            new = []
        fresh = [each for each in new if each not in self._news]
        self._news = {each: self._news.get(each, now) for each in new}
        if fresh:
            self._hold_news()

    def _hold_news(self) -> None:
        if not self.is_busy():
            self._settled.clear()
            self._shelf.load(EGRESS_FILE)
        self._to_check.add(_UNDER_IP)
        self._wake.set()

    def _remember(self, later: Iterable[str]) -> None:
        """Tell the loader, and through it the guard, of devices that nobody knew when the lock was armed."""
        kept = tuple(later)
        if kept == self._told:
            return
        self.later = self._told = kept
        # One that has gone, or belongs to a bridge of guests now, is let go where the table is looked at.
        self._to_check.add(_UNDER_IP)
        self._wake.set()
        try:
            put(self.places.later, "".join(f"{each}\n" for each in kept), PRIVATE_FILE)
        except OSError as error:
            self.tell(Kind.TROUBLE, f"{self.places.later} can't be written: {error.strerror}", {})
        if self.places.guard.exists():
            self._in_background("/bin/sh", LOADER, "reguard")

    async def _work(self) -> None:
        if self.is_busy():
            await asyncio.sleep(_LOOK)
            self._wake.set()
            return
        await self._switch()
        if self.armed is None:
            self._to_check.clear()
            self._drift = None
            self._judge(*await self._ask_status())
            return
        if self._news or (self._drift and self._drift.tries):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), _PATIENCE)
        await self._check()

    async def _switch(self) -> None:
        """Take over another generation when a boot would load another."""
        if self.armed and current_generation() == self.armed.generation:
            return
        self.armed = await self._away(load_armed)
        self._baseline = dict(self.armed.listed) if self.armed else {}
        self._to_check |= set(self._baseline)
        self.later, self._news, self._hooked = (), {}, set()
        if self.links.complete:
            self._look_at_devices(time.monotonic())

    async def _check(self) -> None:
        tables, self._to_check = self._to_check & set(self._baseline), set()
        wrong = await self._deviations(tables)
        self._notice_devices()
        if not wrong:
            self._is_right()
            return
        drift = self._drift = self._drift or Drift(time.monotonic())
        drift.lines = drift.lines or tuple(line for lines in wrong.values() for line in lines)
        drift.removed |= not all(wrong.values())
        drift.tries += 1
        self._judge(LockState.DRIFT, "another program changed the lock")
        if self.is_busy():
            drift.tries = 0
        elif drift.tries <= _WARM_TRIES:
            self._put_back(set(wrong))
        elif drift.tries <= _TRIES:
            await self._away(run, ["/bin/sh", LOADER])
        else:
            await self._settle_slowly()
            return
        self._to_check |= set(wrong)
        self._wake.set()

    async def _settle_slowly(self) -> None:
        """Ask as `status` does: another nft may say the same in other words. What is wrong even so is said, and left."""
        status = await self._away(read_status)
        if status.listing.tables and not status.drift:
            self._baseline = {table_of(text): text for text in status.listing.texts}
            self._is_right()
            self._judge(status.state, status.reason)
            return
        drift, self._drift = self._drift, None
        self._judge(status.state, status.reason)
        if drift:
            self.tell(Kind.TROUBLE, f"the lock could not be put back: {status.reason}", drift.author)

    async def _deviations(self, tables: Iterable[Table]) -> dict[Table, tuple[str, ...]]:
        """Return what is otherwise in each of these tables, a line each; no line for a table that is gone."""
        found: dict[Table, tuple[str, ...]] = {}
        lost: set[tuple[str, int]] = set()
        self._strangers = ""
        for table in sorted(tables):
            listed = await self._away(listing, table)
            indices = {each["ifname"]: each["ifindex"] for each in self.links.listed()}
            held = {each for each in self._hooked if each[0] in self.later} if table == _UNDER_IP else set()
            if not listed.ok:
                found[table] = ()
            elif lines := deviations(self._baseline[table], listed.out, indices, sorted(name for name, _ in held)):
                found[table] = lines
                self._strangers += without_strangers(self._baseline[table], listed.out, self.later if table == _UNDER_IP else ())
            if table == _UNDER_IP:
                devices = devices_in(listed.out) if listed.ok else ()
                lost = {each for each in held if each[0] not in devices}
                # What is lost is missed until it is back.
                self._hooked = {(each, indices[each]) for each in devices if each in indices} | lost
                self._let_go(devices)
        self.under_ip = tuple(sorted(name for name, _ in self._hooked - lost))
        return found

    def _let_go(self, devices: Iterable[str]) -> None:
        """Take the layer under IP off what is no way out any more: a guest's cable looks like one until it is in its bridge."""
        wanted = {*own_devices(self.armed.egress), *self.later} if self.armed else set(devices)
        for name in devices:
            if name not in wanted:
                self._hooked = {each for each in self._hooked if each[0] != name}
                self._shelf.nft.tell(f"delete chain netdev {LOCK_NAME} {chain_name(InterfaceName(name))}")

    def _notice_devices(self) -> None:
        """Say which devices are held now that were not before; try again with those that are not, for a while."""
        held, now = {name for name, _ in self._hooked}, time.monotonic()
        known = own_devices(self.armed.egress) if self.armed else ()
        for name, came in tuple(self._news.items()):
            if name in held:
                del self._news[name]
                fields = {"device": name, "ms": f"{(now - came) * 1000:.1f}"}
                if name not in known:
                    self.tell(Kind.DEVICE, f"{name} came after arming and has the layer under IP now", fields)
            elif now - came > _PATIENCE:
                del self._news[name]
                why = self._shelf.nft.complaint().splitlines() or ["nft took no chain for it"]
                self.tell(Kind.TROUBLE, f"frames below IP are not held on {name}: {why[0]}", {"device": name})
        if self._news:
            self._hold_news()

    def _is_right(self) -> None:
        drift, self._drift = self._drift, None
        self._judge(LockState.ARMED, "")
        # Without a try of ours nothing was wrong: the loader's own work, or an arming.
        if drift is None or not drift.tries:
            return
        ended = drift.restored or time.monotonic()
        self.drifts += 1
        self.restored_ms = (ended - drift.began) * 1000
        what = "the lock was removed" if drift.removed else "; ".join(drift.lines)
        fields = {**drift.author, "what": what, "ms": f"{self.restored_ms:.1f}"}
        self.tell(
            Kind.DRIFT, f"{drift.author['process']} (pid {drift.author['pid']}) changed the lock; it is put back: {what}", fields
        )
        if drift.removed:
            # What goes beside the tunnel is known by elements that went with the table.
            self._in_background("/bin/sh", LOADER, "programs")

    async def ask(self) -> None:
        """Judge as `failshut status` does: routing, and what the next boot would load, count too."""
        if not self.is_busy() and self._drift is None:
            self._judge(*await self._ask_status())

    async def _ask_status(self) -> tuple[LockState, str]:
        status = await self._away(read_status)
        return status.state, status.reason

    def _judge(self, lock: LockState, reason: str) -> None:
        self.lock, self.reason = lock, reason
        self.known.set()
        self.changed()

    def _put_back(self, tables: set[Table]) -> None:
        self._settled.clear()
        self._shelf.load(*((LOCK_FILE,) if tables - {_UNDER_IP} else ()), *((EGRESS_FILE,) if _UNDER_IP in tables else ()))
        # By themselves: what another program's rules refer to can't be taken out, and must not keep the rest from coming back.
        if self._strangers:
            self.errands.submit(nft.load, self._strangers)
            self._strangers = ""

    def _lay_out(self) -> None:
        if self.armed is None:
            return
        there = {each["ifname"] for each in self.links.listed()}
        texts = {LOCK_FILE: self.armed.lock, EGRESS_FILE: for_devices(self.armed.egress, there, self.later)}
        if complaint := self._shelf.lay_out(texts):
            self.tell(Kind.TROUBLE, complaint, {})

    def _in_background(self, *argv: str) -> None:
        self.errands.submit(run, argv)

    async def _away(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Do it in the worker; again, and until the machine has room for the programs that it needs."""
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self.executor, work, *arguments)
            except NoAnswerError as error:
                self.tell(Kind.TROUBLE, str(error), {})
                await asyncio.sleep(_PATIENCE)
