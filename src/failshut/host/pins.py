"""What the armed lock holds host names for: read from its record, so that no look-up is needed while the tunnel is down.

And the serial number of the policy that was armed.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

from failshut.boot.places import ARMED_DIRECTORY, PENDING_LINK, RECORD_FILE
from failshut.model.pin import Pin

# An arming that waits to be confirmed is the one that holds.
_RECORDS = (PENDING_LINK / RECORD_FILE, ARMED_DIRECTORY / "current" / RECORD_FILE)


def read_pins() -> dict[str, Pin]:
    """Return the pins by host name; empty without a lock, or where they can't be read. Never raises."""
    for path in _RECORDS:
        try:
            return parse_pins(json.loads(path.read_text(encoding="utf-8"))["pins"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return {}


def armed_serial() -> int:
    """Return the serial number of the armed policy; 0 without a lock, or where it can't be read. Never raises."""
    for path in _RECORDS:
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))["serial"])
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return 0


def parse_pins(raw: Any) -> dict[str, Pin]:
    """Read the record's pins. Raises ValueError, TypeError, KeyError or AttributeError for what is none."""
    pins = (Pin(str(each["host"]), tuple(map(ip_address, each["addresses"])), int(each["since"])) for each in raw)
    return {pin.host: pin for pin in pins if pin.addresses}


def pins_json(pins: tuple[Pin, ...]) -> list[dict[str, Any]]:
    """Return pins as the record has them."""
    return [{"host": pin.host, "addresses": [str(each) for each in pin.addresses], "since": pin.since} for pin in pins]
