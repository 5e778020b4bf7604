"""Lets out one program, a sign-in, or what was asked for, for a while; an endpoint's new address, until a handshake proves it."""
