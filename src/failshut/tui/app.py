"""`failshut top`: the live view. Every state is said by a word, colour only repeats it; 80 columns and 24 lines are enough."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Label, OptionList, RichLog, Sparkline, Static
from textual.widgets.option_list import Option

from failshut.arming.armed.words import guard_words, headline, tunnel_words
from failshut.host.account import user_name
from failshut.model.lock import LockState
from failshut.tui.snapshot import Snapshot, changes

Read = Callable[[], Snapshot]
# Reading costs some tens of milliseconds of one core.
_EVERY = 2.0
# What the sparkline remembers: two minutes.
_REMEMBERED = 60
_SHOWN_ROWS = 100
_COLOUR = {"LOCKED": "locked", "LOCKED, TUNNEL DOWN": "waiting", "OPEN": "open", "DRIFT": "open", "UNKNOWN": "waiting"}
_SUDO = "run it with sudo to see and do more"


class Ask(ModalScreen[str]):
    """Asks for a line of text; answers "" when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "Back")]

    def __init__(self, question: str, example: str) -> None:
        """Ask `question`, with an example in the empty field."""
        super().__init__()
        self._question, self._example = question, example

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Vertical(id="dialog"):
            yield Label(self._question)
            yield Input(placeholder=self._example)
            yield Label("Enter does it, Escape leaves it")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer with what was written."""
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        """Answer with nothing."""
        self.dismiss("")


class Choose(ModalScreen[str]):
    """Asks for one of several; answers "" when it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "leave", "Back")]

    def __init__(self, question: str, among: Sequence[str]) -> None:
        """Ask `question`."""
        super().__init__()
        self._question, self._among = question, among

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with Vertical(id="dialog"):
            yield Label(self._question)
            yield OptionList(*(Option(each) for each in self._among))
            yield Label("Enter does it, Escape leaves it")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer with what was chosen."""
        self.dismiss(self._among[event.option_index])

    def action_leave(self) -> None:
        """Answer with nothing."""
        self.dismiss("")


class Top(App[None]):
    """The live view over `read`, which is called every two seconds in a thread of its own."""

    TITLE = "failshut"
    CSS_PATH = "top.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        ("a", "allow", "Allow"),
        ("r", "revoke", "Revoke"),
        ("v", "verify", "Verify"),
        ("q", "quit", "Quit"),
    ]

    def __init__(self, read: Read, every: float = _EVERY) -> None:
        """Show what `read` returns, every so many seconds."""
        super().__init__()
        self._read, self._every = read, every
        self._shown: Snapshot | None = None
        self._through: deque[float] = deque([0.0] * _REMEMBERED, maxlen=_REMEMBERED)

    def compose(self) -> ComposeResult:
        """Lay it out: the state, tunnels, what is open, what was refused, what has happened."""
        yield Static(id="state", markup=False)
        yield Static(id="tunnels", markup=False)
        yield Sparkline(list(self._through), id="through")
        yield Static(id="open", markup=False)
        yield DataTable(id="refused", cursor_type="none", zebra_stripes=False)
        yield RichLog(id="events", markup=False, wrap=True, max_lines=200)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to read."""
        self.query_one("#refused", DataTable).add_columns("packets", "program", "user", "to")
        self.query_one("#refused").border_title = "refused"
        self.query_one("#events").border_title = "events"
        self.refresh_now()
        self.set_interval(self._every, self.refresh_now)

    @work(thread=True, exclusive=True, group="reading")
    def refresh_now(self) -> None:
        """Read, and show it."""
        moment = self._read()
        self.call_from_thread(self.show, moment)

    def show(self, moment: Snapshot) -> None:
        """Put a moment on the screen."""
        word, meaning = headline(moment.status)
        state = self.query_one("#state", Static)
        state.update(f"{word}  {meaning}")
        state.set_classes(_COLOUR[word])
        tunnels = [f"{name}  {tunnel_words(tunnel)}" for name, tunnel in moment.status.tunnels]
        guard = f"guard  {guard_words(moment.status)}" if moment.status.state in (LockState.ARMED, LockState.DRIFT) else ""
        hint = _SUDO if moment.status.state is LockState.UNKNOWN else ""
        self.query_one("#tunnels", Static).update("\n".join(filter(None, (*tunnels, guard, hint))))
        self._draw_through(moment)
        left = [f"{each.what}, {each.seconds // 60} min {each.seconds % 60} s left" for each in moment.open]
        self.query_one("#open", Static).update("open   " + ("; ".join(left) or "nothing beside the policy"))
        self._draw_refused(moment)
        log = self.query_one("#events", RichLog)
        for line in changes(self._shown, moment):
            log.write(f"{time.strftime('%H:%M:%S')}  {line}")
        self._shown = moment

    def _draw_through(self, moment: Snapshot) -> None:
        before = sum(self._shown.bytes_through.values()) if self._shown else 0
        now = sum(moment.bytes_through.values())
        self._through.append(float(max(now - before, 0)) if self._shown else 0.0)
        self.query_one("#through", Sparkline).data = list(self._through)

    def _draw_refused(self, moment: Snapshot) -> None:
        table = self.query_one("#refused", DataTable)
        table.border_subtitle = f"{moment.status.counts.total} packets"
        table.clear()
        if moment.rows is None:
            for each in moment.status.counts.blocked[:_SHOWN_ROWS]:
                port = f"/{each.port}" if each.port else ""
                _add(table, str(each.packets), "", user_name(each.uid), f"{each.destination} {each.protocol}{port}")
            return
        for row in moment.rows[:_SHOWN_ROWS]:
            port = f"/{row.port}" if row.port else ""
            program = f"{row.sender.name}[{row.sender.pid}]" if row.sender.pid else "unknown"
            _add(table, str(row.packets), program, user_name(row.sender.uid), f"{row.name or row.destination} {row.protocol}{port}")

    @work(group="asking")
    async def action_allow(self) -> None:
        """Open something for a time."""
        said = await self.push_screen_wait(Ask("Open for a time:", "to 192.0.2.7:443/tcp --for 5m"))
        if said:
            self._run("allow", *said.split())

    @work(group="asking")
    async def action_revoke(self) -> None:
        """End something that is open."""
        what = [str(each.what) for each in self._shown.open] if self._shown else []
        if not what:
            self.notify("nothing is open")
            return
        chosen = await self.push_screen_wait(Choose("End which?", what))
        if chosen:
            place, _, user = chosen.partition(" for user ")
            self._run("revoke", *place.split(), *(["--user", user] if user else []))

    def action_verify(self) -> None:
        """Leave the screen to `failshut verify`, and come back."""
        with self.suspend():
            subprocess.run([sys.executable, "-m", "failshut", "verify"], check=False)
            input("Enter goes back. ")
        self.refresh_now()

    @work(thread=True, group="acting")
    def _run(self, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "failshut", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        said = (done.stdout or done.stderr).strip()
        self.call_from_thread(self.query_one("#events", RichLog).write, f"{time.strftime('%H:%M:%S')}  {said}")
        self.call_from_thread(self.refresh_now)


def _add(table: DataTable[Text], *cells: str) -> None:
    """Add a row of plain text: a program's name is no markup."""
    table.add_row(*map(Text, cells))
