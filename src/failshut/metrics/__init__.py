"""Numbers for Prometheus: one list of metrics, from which the exporter, the dashboards and the alerts are made."""
