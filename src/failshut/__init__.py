"""failshut: a VPN kill switch for Linux that fails shut, and shows the proof."""

__version__ = "0.1.0"
