import pytest

from needed import needs_root_and


@pytest.fixture(autouse=True)
def _with_openvpn():
    """Skip, with the reason, where the real programs can't run."""
    needs_root_and("nft", "ip", "openvpn", "openssl", "unshare", "nsenter")
