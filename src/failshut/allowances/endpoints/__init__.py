"""Endpoints that move: fail over, ask for a name's new address, and pin it once a handshake has proven it."""
