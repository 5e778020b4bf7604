import pytest

from connected import Connected
from needed import needs_root_and


@pytest.fixture
def machine():
    """A sandbox with a tunnel's server at the other end of its cable; gone when the test ends."""
    needs_root_and("nft", "wg", "wg-quick", "wireguard-go", "ip", "unshare", "nsenter")
    with Connected() as private:
        yield private
