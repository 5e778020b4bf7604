"""What the names stood for when they were last asked for through the tunnel: hearsay, kept until the next boot."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

from failshut.allowances.endpoints.ask import Answers
from failshut.boot.places import RUN_DIRECTORY
from failshut.host.files import PRIVATE_FILE, write_atomically

FILE = RUN_DIRECTORY / "heard.json"


def load(file: Path = FILE) -> Answers:
    """Return the addresses by name; what can't be read was not heard."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        return {str(host): tuple(ip_address(each) for each in found) for host, found in raw.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def keep(answers: Answers, file: Path = FILE) -> None:
    """Put the answers beside those for other names; a name without an answer keeps its last one. A full disk is no matter."""
    known = load(file)
    if all(known.get(host) == found for host, found in answers.items()):
        return
    texts = {host: [str(each) for each in found] for host, found in {**known, **answers}.items()}
    try:
        write_atomically(file, json.dumps(texts) + "\n", mode=PRIVATE_FILE)
    except OSError:
        return
