"""Attacks on the lock in a throw-away lab of network namespaces, judged by captured packets."""
