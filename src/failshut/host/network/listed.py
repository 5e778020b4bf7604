"""What ip(8) lists, as it says it in JSON. Small, because `status` asks it too."""

from __future__ import annotations

import json
from typing import Any

from failshut.host.run import run


def listed(*words: str) -> list[dict[str, Any]]:
    """Return what `ip -j` answers; empty where it does not.

    The kernel lets a device's name hold control characters, and ip writes them as they are: no JSON, but no reason to see nothing.
    """
    answer = run(["ip", "-j", *words])
    return list(json.loads(answer.out, strict=False)) if answer.ok and answer.out.strip() else []
