"""A WireGuard server on this machine: its config with the peers, forwarding, NAT, a firewall that keeps SSH, all of it at boot."""
