import os
import shutil

import pytest


@pytest.fixture(autouse=True)
def _with_openvpn():
    """Skip, with the reason, where the real programs can't run."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network and mount namespaces")
    for program in ("nft", "ip", "openvpn", "openssl", "unshare", "nsenter"):
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
            pytest.skip(f"needs {program}: run `make setup`")
