"""The sealed files of a boot, by generation: a numbered directory that is whole or not there, and two links that are switched.

    armed/7/lock.nft egress.nft guard.nft routing4 routing6 outside4 outside6 programs metrics.toml SHA256SUMS armed.json
    armed/current → 7        what the next boot loads
    armed/last-good → 6      what it loads when `current` is damaged

A power cut at any moment leaves the old links or the new ones, and what they point at was on the disk before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from failshut.host.files import PRIVATE_DIRECTORY, PRIVATE_FILE, remove_tree, sync_directory, write_atomically

CURRENT, LAST_GOOD = "current", "last-good"
LOCK_FILE, EGRESS_FILE, GUARD_FILE = "lock.nft", "egress.nft", "guard.nft"
# Each with the version of IP behind it.
ROUTING_FILE, OUTSIDE_FILE = "routing", "outside"
# A line for each set of programs and the control group in it.
PROGRAMS_FILE = "programs"
# For the monitor: where it serves its numbers.
METRICS_FILE = "metrics.toml"
SEAL_FILE = "SHA256SUMS"
# With the version of IP behind it: the lock of a machine whose backend is iptables.
IPTABLES_FILE = "lock.v"
# What a whole list of checksums ends with, by backend.
_LAST = (LOCK_FILE, f"{IPTABLES_FILE}4")
# The rules hold the stamp, which is a secret.


def stage(directory: Path, files: Mapping[str, str]) -> Path:
    """Write `files` (name → text) into a new directory that no boot looks at yet, and return it. Raises OSError."""
    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    target = directory / f".{_next_number(directory)}"
    # A leftover of an arming that was killed.
    remove_tree(target)
    try:
        target.mkdir(mode=PRIVATE_DIRECTORY)
        for name, text in files.items():
            write_atomically(target / name, text, mode=PRIVATE_FILE)
        write_atomically(target / SEAL_FILE, _seal(files), mode=PRIVATE_FILE)
    except BaseException:
        remove_tree(target)
        raise
    return target


def publish(staged: Path) -> Path:
    """Give a staged directory its number: from here on it is whole."""
    generation = staged.with_name(staged.name.lstrip("."))
    staged.rename(generation)
    sync_directory(generation.parent)
    return generation


def point(directory: Path, link: str, generation: str | None) -> None:
    """Switch a link to another generation in one step; None takes the link away."""
    path = directory / link
    if generation is None:
        path.unlink(missing_ok=True)
    else:
        beside = directory / f".{link}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(generation)
        beside.replace(path)
    sync_directory(directory)


def pointed(directory: Path, link: str) -> str | None:
    """Return the generation that a link points at; None without the link."""
    try:
        return str((directory / link).readlink())
    except OSError:
        return None


def is_sealed(generation: Path) -> bool:
    """Whether every file of a generation is there and as it was written: the loader's own question."""
    try:
        text = (generation / SEAL_FILE).read_text(encoding="utf-8")
        sums = [line.split("  ", 1) for line in text.splitlines()]
        whole = all(checksum((generation / name).read_bytes()) == digest for digest, name in sums)
    except (OSError, ValueError):
        return False
    # A lock is the list's last line: a list that was cut does not end with it.
    return whole and bool(sums) and sums[-1][1] in _LAST and text.endswith("\n")


def collect(directory: Path) -> None:
    """Remove the generations that no link points at."""
    kept = {pointed(directory, CURRENT), pointed(directory, LAST_GOOD)}
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name not in kept:
            remove_tree(path)


def _seal(files: Mapping[str, str]) -> str:
    """Return the list of checksums in the form of sha256sum(1)."""
    last = next(each for each in _LAST if each in files)
    names = [*sorted(name for name in files if name != last), last]
    return "".join(f"{checksum(files[name].encode())}  {name}\n" for name in names)


def checksum(content: bytes) -> str:
    """Return the SHA-256 of a file's bytes, as sha256sum(1) writes it."""
    # Imported here: OpenSSL is a tenth of `status`, and where no lock is there is nothing to sum up.
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(content).hexdigest()


def numbered(directory: Path) -> tuple[str, ...]:
    """Return the generations that are there, oldest first."""
    return tuple(sorted((path.name for path in directory.iterdir() if path.name.isdigit()), key=int))


def _next_number(directory: Path) -> int:
    return max(map(int, numbered(directory)), default=0) + 1
