"""Where the boot's files stand. Apart from their texts, because `status` asks only whether they are there."""

from __future__ import annotations

LOADER = "/etc/failshut/load"
ROUTER = "/etc/failshut/route"
GENERATOR = "/etc/systemd/system-generators/failshut"
UNIT_DIRECTORY = "/etc/systemd/system"
BOOT_UNIT, GUARD_UNIT = "failshut.service", "failshut-guard.service"
UNITS = (BOOT_UNIT, GUARD_UNIT)
BOOT_UNIT_PATH = f"{UNIT_DIRECTORY}/{BOOT_UNIT}"
# What `systemctl enable` leaves.
ENABLED_PATH = f"{UNIT_DIRECTORY}/sysinit.target.wants/{BOOT_UNIT}"
