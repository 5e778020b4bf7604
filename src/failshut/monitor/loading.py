"""A warm nft: it has started and waits for a file to load, because starting takes longer than loading does."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

_PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


class Loader:
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
                env={**os.environ, "LC_ALL": "C", "PATH": _PATH},
            )
        except OSError:
            self._nft = None
            return False
        if self._nft.stderr:
            os.set_blocking(self._nft.stderr.fileno(), False)
        return True

    def load(self, *files: Path) -> bool:
        """Have it load `files`, in turn; False when it can't be told. The kernel's next transaction says whether it was taken."""
        words = "".join(f'include "{each}"\n' for each in files).encode()
        return self._tell(words) or (self.start() and self._tell(words))

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

    def _tell(self, words: bytes) -> bool:
        if self._nft is None or self._nft.stdin is None or self._nft.poll() is not None:
            return False
        try:
            self._nft.stdin.write(words)
        except OSError:
            return False
        return True
