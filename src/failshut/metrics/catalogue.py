"""The list of metrics: names, kinds, labels and what they say. Dashboards and alerts are generated from it.

Names follow prometheus.io/docs/practices/naming; those of tunnels are the ones that WireGuard exporters agree on, so that existing
dashboards show clients and servers alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. The name of a counter ends in `_total`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


# `friendly_name` is the peer's, from the comment in its config; empty without one.
_PEER = ("interface", "public_key", "allowed_ips", "friendly_name")

ARMED = Metric("failshut_armed", Kind.GAUGE, "1 while the lock is armed, also when it is not as it was armed")
DRIFT = Metric("failshut_drift", Kind.GAUGE, "1 while the kernel's rules or the boot are not as armed")
KNOWN = Metric("failshut_known", Kind.GAUGE, "0 when the state can't be known: no privilege, or nft is missing")
GUARDED = Metric("failshut_guarded", Kind.GAUGE, "1 while another tool's flush opens nothing")
UNDER_IP = Metric("failshut_under_ip", Kind.GAUGE, "1 for an underlay device whose packets below IP are held", ("device",))
LAYER = Metric("failshut_layer_loaded", Kind.GAUGE, "1 while a layer of the lock is loaded", ("layer",))
WATCHED = Metric("failshut_monitor_running", Kind.GAUGE, "1 while the monitor runs")
RESTORED = Metric("failshut_drift_restored_total", Kind.COUNTER, "How often the monitor has put the lock back since it started")
RESTORED_IN = Metric("failshut_drift_restored_seconds", Kind.GAUGE, "How long the last putting back took, from the event")
BOOT = Metric("failshut_boot_sound", Kind.GAUGE, "1 when the next boot loads the armed lock")
REFUSED = Metric("failshut_refused_packets_total", Kind.COUNTER, "Packets refused since the first arming", ("reason",))
REFUSED_BYTES = Metric("failshut_refused_bytes_total", Kind.COUNTER, "Bytes refused since the first arming", ("reason",))
OPEN = Metric("failshut_open_allowances", Kind.GAUGE, "How much is open for a time beside the policy")
TUNNEL = Metric("failshut_tunnel_up", Kind.GAUGE, "1 while a tunnel of the policy has a device", ("interface",))
SERVER = Metric("failshut_server_up", Kind.GAUGE, "1 while `failshut server` runs: its tunnel is up, its firewall loaded")
RUN_AT = Metric("failshut_last_run_timestamp_seconds", Kind.GAUGE, "When a verb was run last, since 1970", ("verb",))
RUN_OK = Metric("failshut_last_run_ok", Kind.GAUGE, "1 when the last run of a verb found nothing wrong", ("verb",))
RUN_LEAKS = Metric("failshut_last_run_leaks", Kind.GAUGE, "What the last run of a verb saw leak", ("verb",))
SENT = Metric("wireguard_sent_bytes_total", Kind.COUNTER, "Bytes sent to a peer", _PEER)
RECEIVED = Metric("wireguard_received_bytes_total", Kind.COUNTER, "Bytes received from a peer", _PEER)
HANDSHAKE = Metric("wireguard_latest_handshake_seconds", Kind.GAUGE, "When the last handshake was, since 1970; 0: never", _PEER)
CONNECTED = Metric("wireguard_peers_connected", Kind.GAUGE, "Peers with a handshake in the last 180 s", ("interface",))

METRICS = (
    *(ARMED, DRIFT, KNOWN, LAYER, GUARDED, UNDER_IP, WATCHED, RESTORED, RESTORED_IN),
    *(BOOT, REFUSED, REFUSED_BYTES, OPEN, TUNNEL, SERVER, RUN_AT, RUN_OK, RUN_LEAKS),
    *(SENT, RECEIVED, HANDSHAKE, CONNECTED),
)


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule: fires when `expression` held for `after`. `summary` and `remedy` are what a person is told."""

    name: str
    expression: str
    after: str
    severity: str
    summary: str
    remedy: str


ALERTS = (
    Alert(
        *("FailshutDisarmed", f"{ARMED.name} == 0 and {KNOWN.name} == 1 unless on (instance) {SERVER.name}", "1m", "critical"),
        *("{{ $labels.instance }} has no kill switch", "failshut arm"),
    ),
    Alert(
        *("FailshutDrift", f"{DRIFT.name} == 1", "2m", "critical"),
        *("{{ $labels.instance }}'s lock is not as armed", "failshut status says what differs; failshut arm puts it right"),
    ),
    Alert(
        *("FailshutLeak", f"{RUN_LEAKS.name} > 0", "0m", "critical"),
        *("{{ $labels.verb }} saw a leak on {{ $labels.instance }}", "run `failshut {{ $labels.verb }}` again and read the packet"),
    ),
    Alert(
        *("FailshutUnguarded", f"{GUARDED.name} == 0 and {ARMED.name} == 1", "5m", "warning"),
        *("another tool's flush would open {{ $labels.instance }}", "systemctl status failshut-guard"),
    ),
    Alert(
        *("FailshutBelowIpOpen", f"{UNDER_IP.name} == 0", "5m", "warning"),
        *("packets below IP are not held on {{ $labels.device }} of {{ $labels.instance }}", "failshut arm"),
    ),
    Alert(
        *("FailshutBootUnsound", f"{BOOT.name} == 0 and {ARMED.name} == 1", "5m", "warning"),
        *("the next boot of {{ $labels.instance }} does not load the lock", "failshut status; failshut arm"),
    ),
    Alert(
        # A server's peers come and go.
        "FailshutTunnelDown",
        f"{TUNNEL.name} == 0 or (time() - {HANDSHAKE.name} > 300 and on (instance, interface) {TUNNEL.name})",
        *("5m", "warning"),
        *("{{ $labels.interface }} of {{ $labels.instance }} is down: nothing leaves", "failshut status; failshut refresh"),
    ),
    Alert(
        *("FailshutServerDown", f"{SERVER.name} == 0", "2m", "critical"),
        *("the WireGuard server {{ $labels.instance }} is down, or without its firewall", "failshut server init"),
    ),
    Alert(
        *("FailshutUnknown", f"{KNOWN.name} == 0", "5m", "warning"),
        *("nobody knows whether {{ $labels.instance }} is locked", "the exporter needs root, and nft"),
    ),
)
