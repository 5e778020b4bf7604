"""Tunnels as they run, and whoever brought them up."""
