import os
import shutil

import pytest

from connected import Connected


@pytest.fixture
def machine():
    """A sandbox with a tunnel's server at the other end of its cable; gone when the test ends."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network and mount namespaces")
    for program in ("nft", "wg", "wg-quick", "wireguard-go", "ip", "unshare", "nsenter"):
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"needs {program}: run `make setup`")
    with Connected() as private:
        yield private
