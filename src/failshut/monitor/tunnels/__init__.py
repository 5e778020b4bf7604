"""Whether the tunnels carry data: what one look finds, and what several looks that agree mean."""
