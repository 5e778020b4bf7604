"""The guide's three tests, live on this machine and judged by packets only; and what the journal says of the last boot."""
