"""Lets out one program, or a sign-in for a while: what is outside the tunnel, and captive portals."""
