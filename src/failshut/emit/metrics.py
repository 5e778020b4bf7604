"""Where the monitor serves its numbers → the table of the policy that says so: what the monitor reads of it."""

from __future__ import annotations

import json

from failshut.model.policy import Metrics


def emit_metrics(metrics: Metrics | None) -> str:
    """Return it as TOML; without settings nothing."""
    if metrics is None:
        return ""
    words: dict[str, object] = {
        "listen": [str(each) for each in metrics.listen],
        "textfile": metrics.textfile,
        "user": metrics.user,
        "password_file": metrics.password_file,
        "certificate": metrics.certificate,
        "key": metrics.key,
    }
    # A string, or an array of strings, as JSON writes it in ASCII is TOML's too.
    return "[metrics]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in words.items() if value is not None)
