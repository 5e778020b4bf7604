"""Serves the numbers as the armed policy says, and keeps the text file. What can't be is said and tried again; the rest goes on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from failshut.host.files import write_atomically
from failshut.model.policy import Metrics
from failshut.model.units import Listen
from failshut.monitor.state import State

if TYPE_CHECKING:
    from failshut.metrics.export import Server
    from failshut.metrics.samples import Sample

# How to let the service write elsewhere: its file system is read-only.
_REMEDY = "`systemctl edit failshut-monitor`, [Service] ReadWritePaths=DIRECTORY lets it write there"


@dataclass(slots=True)
class Exporter:
    """What is served now. `state` tells what only the monitor knows."""

    executor: Executor
    settings: Metrics | None = None
    state: State = field(default_factory=State)
    _servers: dict[Listen, Server] = field(default_factory=dict)

    def keep(self, settings: Metrics | None) -> list[str]:
        """Serve where it is not served yet, and nowhere else; return what can't be, a sentence each."""
        if settings != self.settings:
            self.close()
            self.settings = settings
        if settings is None:
            return []
        return [complaint for each in settings.listen if each not in self._servers and (complaint := self._serve(each, settings))]

    async def write(self) -> str:
        """Keep the text file, if one is wanted; return what went wrong, or nothing."""
        path = self.settings.textfile if self.settings else None
        return await asyncio.get_running_loop().run_in_executor(self.executor, self._write, path) if path else ""

    def close(self) -> None:
        """Serve no more."""
        for each in self._servers.values():
            asyncio.get_running_loop().remove_reader(each.fileno())
            each.server_close()
        self._servers = {}

    def _serve(self, place: Listen, settings: Metrics) -> str:
        # Imported here: who serves nothing does not pay for it, in memory.
        from failshut.metrics.export import Server, protection  # noqa: PLC0415

        try:
            server = Server(place, self._read, protection(settings))
        except ssl.SSLError as error:
            return f"the numbers can't be served at {place}: {settings.certificate} is no certificate with its key ({error.reason})"
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or str(error)
            where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            return f"the numbers can't be served at {place}: {what}{where}"
        self._servers[place] = server
        asyncio.get_running_loop().add_reader(server.fileno(), server.answer)
        return ""

    def _write(self, path: str) -> str:
        from failshut.metrics.export import as_text  # noqa: PLC0415 - as above

        try:
            write_atomically(Path(path), as_text(self._read))
        except OSError as error:
            return f"{path} can't be written: {error.strerror}; {_REMEDY}"
        return ""

    def _read(self) -> Iterator[Sample]:
        from failshut.metrics.reading import read_samples  # noqa: PLC0415 - as above
        from failshut.metrics.samples import of_monitor  # noqa: PLC0415 - as above

        yield from read_samples()
        yield from of_monitor(self.state.drifts, self.state.restored_ms)
