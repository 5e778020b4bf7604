"""Write packaging/monitoring from the list of metrics: `.venv/bin/python tools/dashboards.py`.

Grafana's dashboards (one machine, and a fleet) and Prometheus' alerts. `pytest tests/metrics` says when they are not up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from failshut.metrics import catalogue
from failshut.metrics.catalogue import ALERTS, METRICS, Kind, Metric

_DIRECTORY = Path(__file__).parents[1] / "packaging/monitoring"
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WIDTH, _HEIGHT = 24, 8
_AGO = "dateTimeFromNow"
# One sentence decides for each: a word and a colour, or a line over time.
_WORDS: dict[Metric, dict[str, tuple[str, str]]] = {
    catalogue.ARMED: {"1": ("locked", "green"), "0": ("OPEN", "red")},
    catalogue.DRIFT: {"0": ("as armed", "green"), "1": ("DRIFT", "red")},
    catalogue.KNOWN: {"1": ("known", "green"), "0": ("UNKNOWN", "orange")},
    catalogue.LAYER: {"1": ("loaded", "green"), "0": ("GONE", "red")},
    catalogue.WATCHED: {"1": ("watches", "green"), "0": ("nobody watches", "orange")},
    catalogue.GUARDED: {"1": ("guarded", "green"), "0": ("unguarded", "orange")},
    catalogue.UNDER_IP: {"1": ("held", "green"), "0": ("not held", "orange")},
    catalogue.BOOT: {"1": ("sound", "green"), "0": ("not sound", "orange")},
    catalogue.TUNNEL: {"1": ("up", "green"), "0": ("down", "orange")},
    catalogue.RUN_OK: {"1": ("nothing wrong", "green"), "0": ("WRONG", "red")},
}


def rules() -> str:
    """Return Prometheus' alerting rules, as YAML: a JSON string is one of YAML's."""
    lines = ["# Written by tools/dashboards.py.", "groups:", "  - name: failshut", "    rules:"]
    for each in ALERTS:
        lines += [
            f"      - alert: {each.name}",
            f"        expr: {json.dumps(each.expression)}",
            f"        for: {each.after}",
            f"        labels: {{severity: {each.severity}}}",
            "        annotations:",
            f"          summary: {json.dumps(each.summary)}",
            f"          remedy: {json.dumps(each.remedy)}",
        ]
    return "\n".join([*lines, ""])


def dashboard(*, fleet: bool) -> dict[str, Any]:
    """Return a dashboard of every metric: of all machines side by side, or of one that is chosen."""
    panels = [{**each, "id": number, "gridPos": _place(number - 1, 3)} for number, each in enumerate(_panels(fleet), start=1)]
    variables = [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
    if not fleet:
        variables.append(
            {
                "name": "instance",
                "type": "query",
                "label": "machine",
                "datasource": _SOURCE,
                "query": f"label_values({catalogue.KNOWN.name}, instance)",
                "refresh": 2,
            }
        )
    return {
        "title": "failshut: the fleet" if fleet else "failshut: one machine",
        "uid": "failshut-fleet" if fleet else "failshut-machine",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "tags": ["failshut", "wireguard"],
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": variables},
        "panels": panels,
    }


def _place(at: int, columns: int) -> dict[str, int]:
    width = _WIDTH // columns
    return {"h": _HEIGHT, "w": width, "x": at % columns * width, "y": at // columns * _HEIGHT}


def _panels(fleet: bool) -> Iterator[dict[str, Any]]:
    for metric in METRICS:
        chosen = "" if fleet else '{instance="$instance"}'
        shown = f"rate({metric.name}{chosen}[5m])" if metric.kind is Kind.COUNTER else f"{metric.name}{chosen}"
        # Grafana counts from 1970 in milliseconds.
        shown += " * 1000" if _unit(metric) == _AGO else ""
        legend = " ".join(f"{{{{{each}}}}}" for each in (*(["instance"] if fleet else []), *metric.labels)) or metric.name
        target = {"refId": "A", "datasource": _SOURCE, "expr": shown, "legendFormat": legend}
        words = _WORDS.get(metric)
        yield {
            "type": "stat" if words else "timeseries",
            "title": metric.help + (", a second" if metric.kind is Kind.COUNTER else ""),
            "datasource": _SOURCE,
            "targets": [target],
            "fieldConfig": {"defaults": {"unit": _unit(metric), "mappings": _mappings(words)}, "overrides": []},
            "options": {"colorMode": "background", "textMode": "value_and_name"} if words else {},
        }


def _unit(metric: Metric) -> str:
    if "bytes" in metric.name:
        return "Bps"
    if "packets" in metric.name:
        return "pps"
    if metric.name.endswith("_seconds"):
        return "s" if metric is catalogue.RESTORED_IN else _AGO
    return "short"


def _mappings(words: dict[str, tuple[str, str]] | None) -> list[dict[str, Any]]:
    options = {value: {"text": text, "color": colour, "index": 0} for value, (text, colour) in (words or {}).items()}
    return [{"type": "value", "options": options}] if options else []


def written() -> dict[Path, str]:
    """Return every file with its text."""
    drawn = {"machine.json": dashboard(fleet=False), "fleet.json": dashboard(fleet=True)}
    texts = {name: json.dumps(each, indent=2) + "\n" for name, each in drawn.items()}
    return {_DIRECTORY / name: text for name, text in (*texts.items(), ("alerts.yml", rules()))}


if __name__ == "__main__":
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
