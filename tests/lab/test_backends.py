"""The attacks under the other backends: a few of them here, all of them by `make backends`, which writes the table of the docs.

Chosen so that each thing iptables says in its own words meets one attack or one use: who sends the transport (`rogue-payload`),
whose source it is (`rule-lost`), answers by the way they came (`works-inbound`), the hop limit (`works-lan`), a reload; and one
attack below IP, which must be *seen* to leak: it is what the layer under IP is for.
"""

from __future__ import annotations

import shutil

import pytest

from amount import THOROUGHLY
from failshut.drill.choices import Backend
from failshut.drill.network.rules import RuleSource
from failshut.drill.pool import Job, Worker
from failshut.drill.run import Rehearsal
from failshut.drill.scenarios import SCENARIOS
from lab.drilling import example_policy, rehearsal_by

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not shutil.which("iptables-legacy-restore"), reason="iptables-legacy is not installed"),
]
ENGINES = (Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY)
INLINE = (Backend.INLINE_NFT, Backend.INLINE_IPTABLES)


@pytest.fixture(scope="module", params=[*ENGINES, *INLINE], ids=str)
def by_backend(request):
    """One worker for each backend, with the example policy."""
    rehearsal: Rehearsal = rehearsal_by(example_policy(), request.param)
    worker = Worker(rehearsal)
    yield request.param, lambda name: worker.run(Job(SCENARIOS[name], RuleSource.LOCK))
    worker.close()


@pytest.mark.parametrize("name", ["rule-lost", "rogue-payload", "works-inbound", "works-lan"])
def test_every_backend_holds_what_is_ip(by_backend, name):
    """Nothing leaks, and what must work does; without the lock the same attacks are seen to leak (tests of this folder)."""
    _, run = by_backend

    result = run(name)

    assert result.reason == ""
    assert result.sent > 0
    assert result.leaks == ()
    assert all(result.works.values()), result.works


def test_only_nftables_holds_what_is_below_ip(by_backend):
    """The control of the layer under IP: by any other backend frames of packet sockets are seen on the cable."""
    backend, run = by_backend
    if backend in INLINE:
        pytest.skip("the inline form is the same there")

    assert run("packet-sockets").leaked > 0


def test_a_reload_lets_nothing_out(by_backend):
    """Twenty re-arms while the policy changes and back, under a flood that neither policy allows."""
    backend, run = by_backend
    if backend in INLINE:
        pytest.skip("it is loaded once, with the tunnel")
    if backend is Backend.IPTABLES_LEGACY and not THOROUGHLY:
        pytest.skip("takes minutes, and iptables-nft's is tried: FAILSHUT_THOROUGH=1 runs it")

    result = run("policy-changes")

    assert result.reason == ""
    assert result.sent > 1000
    assert result.leaks == ()


def test_the_inline_form_goes_with_the_tunnel(by_backend):
    """What it can't hold, and says so: after `wg-quick down` everything leaves."""
    backend, run = by_backend
    if backend not in INLINE:
        pytest.skip("it stays when the tunnel goes")

    assert run("guide-1").leaked > 0
