"""MUL-02-002 (Cure53 for Mullvad, 2020).

1. An unprivileged program sends its own payload to the relay's address and port.
2. A rule that allows by address alone lets it out, and an observer learns who is behind the tunnel.
Pass: no user but the tunnel's own may, with or without its mark.
"""

from lab.drilling import drills


@drills("other-users")
def test_no_other_user_reaches_the_server(held):
    """uid 1000 plain, with the mark, with CAP_NET_RAW alone; a system user."""
    held("other-users")
