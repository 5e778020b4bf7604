"""What each tool writes of its tunnels, read into one `TunnelConfig`: a file for each format."""
