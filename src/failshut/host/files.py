"""Files that must be whole or not there: written beside, flushed to the disk, then renamed over."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

# What nobody but its owner may look into.
PRIVATE_FILE, PRIVATE_DIRECTORY = 0o600, 0o700


def _tempfile() -> ModuleType:
    """Return the library; imported by whoever writes, for `status` only reads and starts in half of the time."""
    import tempfile  # noqa: PLC0415

    return tempfile


def write_atomically(path: Path, text: str, *, mode: int | None = None) -> None:
    """Replace `path` by `text` so that a power cut leaves the old file or the new one. Raises OSError, and then nothing changed.

    `mode` is for a new file; an existing one keeps its mode and owner.
    """
    # A link stays one: what it leads to is replaced.
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    handle, name = _tempfile().mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            _keep_identity(path, file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def write_new(path: Path, text: str, *, mode: int) -> None:
    """Write a file that must not be there yet, whole or not at all. Raises FileExistsError, OSError."""
    handle, name = _tempfile().mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link replaces nothing.
        path.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_new_tree(directory: Path, files: Mapping[str, str], *, mode: int) -> None:
    """Write files below a directory that must not be there yet, all or none. Raises FileExistsError, OSError."""
    if directory.exists() or directory.is_symlink():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(directory))
    directory.parent.mkdir(parents=True, exist_ok=True)
    # For its owner alone, and so is what is in it.
    beside = Path(_tempfile().mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        for name, text in files.items():
            path = beside / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            write_new(path, text, mode=mode)
        beside.rename(directory)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(beside)
        raise
    sync_directory(directory.parent)


def _keep_identity(path: Path, descriptor: int, mode: int | None) -> None:
    try:
        existing = path.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, 0o644 if mode is None else mode)
        return
    os.fchmod(descriptor, existing.st_mode & 0o7777)
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, existing.st_uid, existing.st_gid)


def sync_directory(directory: Path) -> None:
    """Make a rename or removal in `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(directory: Path) -> None:
    """Remove a directory and all in it; fine when it is not there."""
    import shutil  # noqa: PLC0415 - as `_tempfile`

    if directory.exists():
        shutil.rmtree(directory)
        sync_directory(directory.parent)
