"""The two ways to speak to a machine: to qemu that runs it (QMP), and to the agent in it."""

from __future__ import annotations

import itertools
import json
import socket
from pathlib import Path
from typing import Any

from failshut.drill.network.netns import SetUpError
from failshut.drill.network.wait import until
from failshut.host.run import TIMED_OUT, Result


class _Lines:
    """A socket that says lines of JSON."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._waiting = b""

    def say(self, word: dict[str, Any]) -> None:
        self._socket.settimeout(60)
        self._socket.sendall(json.dumps(word).encode() + b"\n")

    def hear(self, within: float) -> dict[str, Any] | None:
        """Return the next line; None when none came in time. Raises `SetUpError` when the other end is gone."""
        self._socket.settimeout(within)
        while b"\n" not in self._waiting:
            try:
                part = self._socket.recv(65536)
            except TimeoutError:
                return None
            except OSError:
                part = b""
            if not part:
                raise SetUpError("the machine is off")
            self._waiting += part
        line, _, self._waiting = self._waiting.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            # The end of what a boot was saying when it was cut off.
            return {}

    def close(self) -> None:
        self._socket.close()


class Qmp:
    """qemu's own protocol: a command, its answer, and events in between."""

    def __init__(self, path: Path) -> None:
        self._lines = _Lines(path)
        self._events: list[dict[str, Any]] = []
        self.do("qmp_capabilities")

    def do(self, command: str, within: float = 120, /, **arguments: Any) -> Any:
        """Have qemu do something; return its answer. Raises `SetUpError` with its words when it refuses."""
        self._lines.say({"execute": command, "arguments": arguments})
        while (heard := self._lines.hear(within)) is not None:
            if "error" in heard:
                raise SetUpError(f"qemu refuses {command}: {heard['error']['desc']}")
            if "return" in heard:
                return heard["return"]
            if "event" in heard:
                self._events.append(heard)
        raise SetUpError(f"qemu does not answer {command}")

    def forget_events(self) -> None:
        """Events from now on only."""
        while (heard := self._lines.hear(0.01)) is not None:
            self._events.append(heard)
        self._events.clear()

    def await_event(self, name: str, within: float) -> bool:
        """Wait for an event, which may have come already; return whether it came."""

        def came() -> bool:
            heard = self._lines.hear(0.2)
            if heard:
                self._events.append(heard)
            return any(each.get("event") == name for each in self._events)

        try:
            return until(came, within=within, step=0)
        except SetUpError:
            # A machine that is off has said what it had to say.
            return any(each.get("event") == name for each in self._events)

    def close(self) -> None:
        """Hang up."""
        self._lines.close()


class Agent:
    """Runs programs in the machine, one at a time."""

    def __init__(self, path: Path) -> None:
        self._lines = _Lines(path)
        self._numbers = itertools.count(1)

    def tell(self, argv: tuple[str, ...], stdin: str | None = None, timeout: float = 60) -> int:
        """Have the machine run a program, and don't wait; return the order's number."""
        number = next(self._numbers)
        self._lines.say({"id": number, "argv": list(argv), "stdin": stdin, "timeout": timeout})
        return number

    def run(self, argv: tuple[str, ...], stdin: str | None, timeout: float) -> Result:
        """Run a program; what does not answer in time has failed."""
        number = self.tell(argv, stdin, timeout)
        while (heard := self._lines.hear(timeout + 10)) is not None:
            if heard.get("id") == number:
                return Result(argv, heard["code"], heard["out"], heard["err"])
        return Result(argv, TIMED_OUT, "", f"{' '.join(argv)}: no answer from the machine within {timeout:g} s")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
