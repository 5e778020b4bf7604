"""A warm nft: it has started and waits for a file to load, because starting takes longer than loading does. And what nft lists."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from failshut.host.files import PRIVATE_DIRECTORY, PRIVATE_FILE
from failshut.host.filter import nft
from failshut.host.filter.generation import of_one_moment
from failshut.host.run import Result, run, search_path
from failshut.monitor.lock.listings import Table
from failshut.monitor.places import put


class Warm:
    """Hands files to an `nft --interactive`, which is started anew when it has ended. Each file is a transaction."""

    def __init__(self) -> None:
        self._nft: subprocess.Popen[bytes] | None = None

    def start(self) -> bool:
        """Start it; False where nft is missing."""
        self.close()
        try:
            self._nft = subprocess.Popen(
                ["nft", "--interactive"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "LC_ALL": "C", "PATH": search_path()},
            )
        except OSError:
            self._nft = None
            return False
        if self._nft.stderr:
            os.set_blocking(self._nft.stderr.fileno(), False)
        return True

    def load(self, *files: Path) -> bool:
        """Have it load `files`, in turn; False when it can't be told. The kernel's next transaction says whether it was taken."""
        return self.tell(*(f'include "{each}"' for each in files))

    def tell(self, *commands: str) -> bool:
        """Have it carry out nft commands, each a transaction; False when it can't be told."""
        words = "".join(f"{each}\n" for each in commands).encode()
        return self._write(words) or (self.start() and self._write(words))

    def complaint(self) -> str:
        """Return what it said since it was last asked."""
        if self._nft is None or self._nft.stderr is None:
            return "nft is not installed"
        with contextlib.suppress(OSError):
            return (self._nft.stderr.read() or b"").decode(errors="replace").strip()
        return ""

    def close(self) -> None:
        """End it."""
        if self._nft is None:
            return
        self._nft.kill()
        self._nft.wait()
        for stream in (self._nft.stdin, self._nft.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self._nft = None

    def _write(self, words: bytes) -> bool:
        if self._nft is None or self._nft.stdin is None or self._nft.poll() is not None:
            return False
        try:
            self._nft.stdin.write(words)
        except OSError:
            return False
        return True


@dataclass(slots=True)
class Shelf:
    """Texts laid out as files for the warm nft. One that can't be laid out is handed to an nft of its own when it is needed."""

    directory: Path
    errands: Executor
    nft: Warm = field(default_factory=Warm)
    _texts: dict[str, str] = field(default_factory=dict)
    _laid_out: dict[str, str] = field(default_factory=dict)

    def lay_out(self, texts: Mapping[str, str]) -> str:
        """Write those that are new, by their names; return what went wrong, or nothing."""
        self._texts = dict(texts)
        for name, text in texts.items():
            if self._laid_out.get(name) == text:
                continue
            try:
                self.directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
                put(self.directory / name, text, PRIVATE_FILE)
            except OSError as error:
                self._laid_out.pop(name, None)
                return f"{self.directory} can't be written: {error.strerror}"
            self._laid_out[name] = text
        return ""

    def load(self, *names: str) -> None:
        """Have the texts loaded, in turn, each in a transaction."""
        ready = all(self._laid_out.get(name) == self._texts.get(name, "") for name in names)
        if ready and self.nft.load(*(self.directory / name for name in names)):
            return
        for name in names:
            self.errands.submit(nft.load, self._texts.get(name, ""))


def listing(table: Table) -> Result:
    """Return what nft lists of a table."""
    return of_one_moment(lambda: run(nft.list_words(table)))
