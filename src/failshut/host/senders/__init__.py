"""Whose a packet is: the calls, the sockets and the answers that tell."""
