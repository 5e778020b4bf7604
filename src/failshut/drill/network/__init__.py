"""The lab's network: its addresses, namespaces, cables, tunnel, servers, background traffic, and the capture on the cable."""
