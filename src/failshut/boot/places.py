"""Where the boot's files stand. Apart from their texts, because `status` asks only whether they are there."""

from __future__ import annotations

from pathlib import Path

# Under /etc, not /var: a generator reads it before any other file system is mounted.
ARMED_DIRECTORY = Path("/etc/failshut/armed")
RECORD_FILE = "armed.json"
# Gone with a reboot, as what is in it shall be.
RUN_DIRECTORY = Path("/run/failshut")
# Held by whoever arms, confirms, disarms, or undoes an arming.
ARMING_LOCK = Path("/run/failshut.lock")
# The generation of an arming that waits to be confirmed, for the loader and the guard; until when it waits; and what undoes it.
PENDING_LINK, PENDING_FILE, REVERT_DIRECTORY = RUN_DIRECTORY / "pending", RUN_DIRECTORY / "pending.json", RUN_DIRECTORY / "revert"
# A pipe, there as long as the guard stands.
GUARD_HOLD = RUN_DIRECTORY / "guard/hold"
LOADER = "/etc/failshut/load"
ROUTER = "/etc/failshut/route"
GENERATOR = "/etc/systemd/system-generators/failshut"
# initramfs-tools' own (initramfs-tools(7)).
INITRAMFS_DIRECTORY = "/etc/initramfs-tools"
INITRAMFS_HOOK = f"{INITRAMFS_DIRECTORY}/hooks/failshut"
UNIT_DIRECTORY = "/etc/systemd/system"
BOOT_UNIT, GUARD_UNIT, SLEEP_UNIT = "failshut.service", "failshut-guard.service", "failshut-asleep.service"
UNITS = (BOOT_UNIT, GUARD_UNIT, SLEEP_UNIT)
# What Debian's netfilter-persistent loads at boot, by version of IP, when iptables is the backend.
PERSISTENT_UNIT = "netfilter-persistent.service"
PERSISTENT_RULES = {"4": "/etc/iptables/rules.v4", "6": "/etc/iptables/rules.v6"}
# What sees and says, and holds nothing: without them the lock is the same. What the path starts is enabled by nobody.
MONITOR_UNIT, REFRESH_PATH, REFRESH_UNIT = "failshut-monitor.service", "failshut-refresh.path", "failshut-refresh.service"
WATCHING_UNITS = (MONITOR_UNIT, REFRESH_PATH)
# Locked by the monitor as long as it runs.
MONITOR_LOCK = RUN_DIRECTORY / "monitor.lock"
# Held by whoever puts the routing on: `files/route` names it too.
ROUTING_LOCK = Path("/run/failshut-routing")
# What else it leaves when it is gone: devices that came since arming, what it knows, what happened, what it asks for; and texts.
MONITOR_LATER, MONITOR_STATUS = RUN_DIRECTORY / "later", RUN_DIRECTORY / "status.json"
MONITOR_EVENTS, MONITOR_REFRESH = RUN_DIRECTORY / "events.jsonl", RUN_DIRECTORY / "refresh"
MONITOR_DIRECTORY = RUN_DIRECTORY / "monitor"
BOOT_UNIT_PATH = f"{UNIT_DIRECTORY}/{BOOT_UNIT}"
# What `systemctl enable` leaves.
ENABLED_PATH = f"{UNIT_DIRECTORY}/sysinit.target.wants/{BOOT_UNIT}"
