"""Whether the prover is there: z3 is a library of its own, in C++."""

from __future__ import annotations


def why_not() -> str:
    """Return why the prover can't be loaded; empty when it can."""
    try:
        import z3  # noqa: F401, PLC0415 - loaded only to see whether it can be
    except Exception as error:  # noqa: BLE001 - z3 raises an exception of its own kind, which without z3 has no name
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return ""
