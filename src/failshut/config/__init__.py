"""Reads the policy file and the tunnels' own configs into a checked `Policy`. Pure: `host.sources` fetches what lies outside."""
