"""Files written so that each can be put back: what arming changes on disk, and how a failed one changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from failshut.arming.errors import ArmingError
from failshut.host.files import sync_directory, write_atomically
from failshut.model.plan import FileChange


def read_text(path: Path) -> str | None:
    """Return a file's text, byte for byte; None when it is not there. Raises `ArmingError`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        # Not a text of ours, whatever it is; different from every one.
        return ""
    except OSError as error:
        raise ArmingError(f"{path} can't be read: {error.strerror}", help="run it with sudo", permission=True) from error


def write(files: Iterable[FileChange], undo: contextlib.ExitStack) -> None:
    """Write every file that would change; each is put on `undo`. Raises `ArmingError`."""
    for change in files:
        if not change.is_change:
            continue
        path = Path(change.path)
        make_directory(path.parent, undo)
        # Registered before the write: a failure between the rename and the flush must be undone too.
        undo.callback(_put_back, change)
        try:
            write_atomically(path, change.after, mode=change.mode)
        except OSError as error:
            raise unwritable(path, error) from error


def make_directory(path: Path, undo: contextlib.ExitStack, *, mode: int = 0o755) -> None:
    """Make a directory and those above it; each is put on `undo`. Raises `ArmingError`."""
    if path.is_dir():
        return
    make_directory(path.parent, undo)
    undo.callback(_remove_directory, path)
    try:
        path.mkdir(mode=mode)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> ArmingError:
    """Say that a file could not be written, and what to do."""
    return ArmingError(
        f"{path} can't be written: {error.strerror}",
        help="make room, or mount it writable, then run it again",
        permission=isinstance(error, PermissionError),
    )


def _remove_directory(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


def _put_back(change: FileChange) -> None:
    path = Path(change.path)
    if change.before is not None:
        write_atomically(path, change.before)
    elif path.exists():
        path.unlink()
        sync_directory(path.parent)
