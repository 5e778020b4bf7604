"""The service: one loop, one `State`. It keeps the lock, looks at the tunnels, and tells; it never takes anything off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from failshut.host import locks
from failshut.host.run import NoAnswerError
from failshut.host.service.notify import notify, watchdog_seconds
from failshut.model.lock import LockState
from failshut.model.policy import Metrics
from failshut.monitor.lock.keeper import Keeper
from failshut.monitor.pace import ANXIOUS, CALM
from failshut.monitor.places import Places
from failshut.monitor.state import Carries, Event, Kind, Reason, State, Tunnel
from failshut.monitor.telling.desktop import Desktop
from failshut.monitor.telling.exporter import Exporter
from failshut.monitor.telling.notices import Limit, Notice, notice_of, with_held
from failshut.monitor.telling.outlets import Outlets
from failshut.monitor.telling.refused import Refused, by_user, described
from failshut.monitor.tunnels.health import Health, step
from failshut.monitor.tunnels.look import Clock, Looker

_MOST_EVENTS = 100
# In seconds: how often everything is judged as `status` does, and how often a tunnel that stays down is refreshed.
_WHOLE_LOOK, _REFRESH_AGAIN = 600.0, 300.0
# How often the text file is written: half as often as the tunnels are looked at, for what it costs.
_EXPORT_AGAIN = 59.0
_REFRESHED = (Reason.NO_HANDSHAKE, Reason.BLOCKED)


class AlreadyRunsError(Exception):
    """Another monitor keeps this machine's lock."""


@dataclass(slots=True)
class Monitor:
    """The whole of it. `state` is replaced, never changed."""

    places: Places = field(default_factory=Places)
    # In seconds: between two looks at tunnels that are well.
    every: float = CALM
    desktop: Desktop = field(default_factory=Desktop)
    state: State = field(default_factory=State)
    _health: dict[str, Health] = field(default_factory=dict)
    _journal_limit: Limit = field(default_factory=lambda: Limit(most=20))
    _desktop_limit: Limit = field(default_factory=Limit)
    _troubles: dict[str, str] = field(default_factory=dict)
    # A tunnel's device came, went or changed.
    _nudge: asyncio.Event = field(default_factory=asyncio.Event)
    _refreshed: float = -_REFRESH_AGAIN
    _exported: float = float("-inf")
    # Apart: a slow desktop or resolver must not keep the lock waiting.
    _keeping: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "keep"))
    _looking: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "look"))
    _errands: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "errand"))
    _telling: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "tell"))
    _outlets: Outlets = field(init=False)
    _keeper: Keeper = field(init=False)
    _exporter: Exporter = field(init=False)
    _looker: Looker = field(default_factory=Looker)
    _refused: Refused = field(default_factory=Refused)
    _clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self._outlets = Outlets(self.places)
        self._exporter = Exporter(self._looking)
        self._keeper = Keeper(self.places, self.tell, self._publish, self._nudge.set, self._keeping, self._errands)

    async def run(self) -> None:
        """Run until a signal ends it. Raises `AlreadyRunsError`, and PermissionError without CAP_NET_ADMIN."""
        with contextlib.suppress(OSError):
            self.places.run.mkdir(mode=0o755, parents=True, exist_ok=True)
        with self._alone():
            work = [asyncio.ensure_future(each) for each in (self._keeper.run(), self._look(), self._live())]
            self._end_on_signal(work)
            self.tell(Kind.STARTED, "the monitor watches", {})
            try:
                await asyncio.gather(*work)
            except asyncio.CancelledError:
                self.tell(Kind.STOPPED, "the monitor stops; the lock stays as it is", {})
                with contextlib.suppress(OSError):
                    self.places.status.unlink()
            finally:
                for each in work:
                    each.cancel()
                self._exporter.close()
                for pool in (self._keeping, self._looking, self._errands, self._telling):
                    pool.shutdown(wait=False, cancel_futures=True)

    def tell(self, kind: Kind, message: str, fields: dict[str, str]) -> None:
        """Take an event into the state, and say it wherever somebody may listen."""
        event = Event(kind, time.time(), message, fields)
        self.state = replace(self.state, events=(*self.state.events, event)[-_MOST_EVENTS:])
        now = time.monotonic()
        held = self._journal_limit.admit(str(kind), now)
        if held is not None:
            self._outlets.say(event, with_held(message, held))
        self._in_trouble("events", self._outlets.record(event))
        self._publish()
        notice = notice_of(event)
        held = self._desktop_limit.admit(notice.slot, now) if notice else None
        if notice and held is not None:
            shown = replace(notice, body=with_held(notice.body, held))
            self._show(shown)

    def _show(self, notice: Notice) -> None:
        """Show it, by a thread that may wait; the next notice says whether the desktop could be reached."""
        loop = asyncio.get_running_loop()

        def show() -> None:
            complaint = self.desktop.show(notice)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._in_trouble, "desktop", complaint and f"no notice on the desktop: {complaint}")

        self._telling.submit(show)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock file that says a monitor runs. Where /run can't be written there is none to hold, and that is no matter."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.holding(self.places.alive))
            except BlockingIOError as error:
                raise AlreadyRunsError from error
            except OSError as error:
                self._in_trouble("run", f"{self.places.alive} can't be written: {error.strerror}")
            yield

    def _end_on_signal(self, work: Sequence[asyncio.Future[None]]) -> None:
        def end() -> None:
            for each in work:
                each.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end)

    def _publish(self) -> None:
        keeper = self._keeper
        self.state = replace(
            self.state,
            lock=keeper.lock,
            reason=keeper.reason,
            tunnels=tuple(each.tunnel for each in self._health.values()),
            underlay=keeper.underlay,
            under_ip=keeper.under_ip,
            later=keeper.later,
            drifts=keeper.drifts,
            restored_ms=keeper.restored_ms,
            troubles=tuple(each for each in self._troubles.values() if each),
        )
        self._exporter.state = self.state
        self._in_trouble("status", self._outlets.publish(self.state))

    def _in_trouble(self, what: str, complaint: str) -> None:
        """Remember what does not work, and say it when it is new: not by the way that does not work."""
        if self._troubles.get(what, "") == complaint:
            return
        self._troubles[what] = complaint
        if complaint:
            self._outlets.say(Event(Kind.TROUBLE, time.time(), complaint), complaint)

    async def _live(self) -> None:
        """Tell the service manager that it is alive, as often as it asks; judge everything anew now and then."""
        notify("READY=1", "STATUS=watching")
        await asyncio.sleep(1)
        await self._keeper.ask()
        every = watchdog_seconds()
        last = time.monotonic()
        while True:
            notify("WATCHDOG=1", f"STATUS={self._summary()}")
            await asyncio.sleep(min(every / 2 if every else _WHOLE_LOOK, _WHOLE_LOOK))
            if time.monotonic() - last >= _WHOLE_LOOK:
                last = time.monotonic()
                await self._keeper.ask()

    def _summary(self) -> str:
        tunnels = ", ".join(f"{each.name} {each.carries}" for each in self.state.tunnels)
        return f"lock {self.state.lock}; {tunnels or 'no tunnel'}; put back {self.state.drifts} time(s)"

    async def _look(self) -> None:
        """Look at the tunnels, seldom while they are well."""
        await self._keeper.known.wait()
        while True:
            try:
                await self._look_once()
            except NoAnswerError as error:
                # A look that came to nothing says nothing of the tunnels.
                self.tell(Kind.TROUBLE, str(error), {})
            # At the start nobody is calm: the first looks decide.
            calm = all(each.is_calm for each in self._health.values())
            self._nudge.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), self.every if calm else min(ANXIOUS, self.every))

    async def _look_once(self) -> None:
        if jump := self._clock.jumped():
            self.tell(Kind.CLOCK, f"the clock was set by {jump:+.0f} s; ages are counted on", {"seconds": f"{jump:.0f}"})
        armed = self._keeper.armed
        names = armed.record.tunnels if armed and self._keeper.lock is not LockState.DISARMED else ()
        flags = {each["ifname"]: each["flags"] for each in self._keeper.links.listed()}
        suspected = [name for name, each in self._health.items() if not each.is_calm]
        loop = asyncio.get_running_loop()
        looks = await loop.run_in_executor(self._looking, self._looker.look, names, flags, suspected)
        before, now = self._health, time.time()
        self._health = {name: step(before.get(name, Health(Tunnel(name, since=now))), look, now) for name, look in looks.items()}
        for name, health in self._health.items():
            self._tell_change(before[name].tunnel.carries if name in before else Carries.UNKNOWN, health.tunnel)
        if names:
            for uid, new in by_user(await loop.run_in_executor(self._looking, self._refused.fresh)).items():
                fields = {"uid": str(uid), "destination": new[0].destination, "port": str(new[0].port), "number": str(len(new))}
                self.tell(Kind.REFUSED, await loop.run_in_executor(self._looking, described, uid, new), fields)
        await self._export(armed.metrics if armed else None)
        self._publish()
        self._refresh()

    async def _export(self, settings: Metrics | None) -> None:
        self._in_trouble("metrics", "; ".join(self._exporter.keep(settings)))
        if time.monotonic() - self._exported >= _EXPORT_AGAIN:
            self._exported = time.monotonic()
            self._in_trouble("textfile", await self._exporter.write())

    def _tell_change(self, before: Carries, tunnel: Tunnel) -> None:
        if tunnel.carries is before:
            return
        fields = {"tunnel": tunnel.name, "reason": str(tunnel.reason)}
        if tunnel.carries is Carries.DOWN:
            self.tell(Kind.TUNNEL_DOWN, f"{tunnel.name} is down: {tunnel.reason}", fields)
        elif before is Carries.DOWN:
            self.tell(Kind.TUNNEL_UP, f"{tunnel.name} carries data again", fields)

    def _refresh(self) -> None:
        """Ask for the endpoints to be refreshed while a server is silent; a unit with the rights for that does it."""
        silent = [each.tunnel.name for each in self._health.values() if each.tunnel.reason in _REFRESHED]
        now = time.monotonic()
        if not silent or now - self._refreshed < _REFRESH_AGAIN:
            return
        self._refreshed = now
        try:
            self.places.refresh.write_text(f"{' '.join(silent)}\n")
        except OSError as error:
            self._in_trouble("refresh", f"{self.places.refresh} can't be written: {error.strerror}")
            return
        self.tell(Kind.REFRESH, f"{', '.join(silent)}: the server is looked for again", {"tunnel": " ".join(silent)})
