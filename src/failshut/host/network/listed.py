"""What ip(8) lists, as it says it in JSON. Small, because `status` asks it too."""

from __future__ import annotations

import json
from typing import Any

from failshut.host.run import NoAnswerError, run


def listed(*words: str) -> list[dict[str, Any]]:
    """Return what `ip -j` answers; empty where it refuses. Raises `NoAnswerError` for what is no list.

    The kernel lets a device's name hold control characters, and ip writes them as they are: no JSON, but no reason to see nothing.
    """
    answer = run(["ip", "-j", *words])
    try:
        entries = json.loads(answer.out, strict=False) if answer.ok and answer.out.strip() else []
        # Of an address that was not asked for, ip leaves an empty entry.
        return [dict(each) for each in entries if each]
    except (ValueError, TypeError) as error:
        raise NoAnswerError(f"ip -j {' '.join(words)} does not answer in JSON") from error
