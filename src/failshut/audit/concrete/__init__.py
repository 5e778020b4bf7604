"""One packet, sent through a ruleset's text as the kernel would send it. Whatever it is not told is asked of an oracle."""
