"""iptables-save and ip6tables-save → the model. What is not understood is kept as unknown and said; nothing is guessed."""

from failshut.read.iptables.save import read_save

__all__ = ["read_save"]
