"""Kernel settings under /proc/sys."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/proc/sys")


def read_sysctl(path: str) -> str | None:
    """Return a setting's value; None when this kernel has no such setting."""
    try:
        return (_ROOT / path).read_text(encoding="ascii").strip()
    except OSError:
        return None


def set_sysctl(path: str, value: str) -> bool:
    """Set a value; False where it may not be set, as in most containers."""
    try:
        (_ROOT / path).write_text(f"{value}\n", encoding="ascii")
    except OSError:
        return False
    return True
