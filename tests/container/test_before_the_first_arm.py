"""Real podman: a container floods in the namespace before the entrypoint of the one that locks it has begun."""

from __future__ import annotations

import pytest

from boot.room import Room
from boot.router import Router
from boot.wire import BETWEEN
from container.lab import KINDS, SOURCE, Lab
from failshut.drill.network.wait import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
BEFORE, SHUT, ARMED = "before the entrypoint", "shut, and not armed", "armed"


def test_from_its_first_step_on_nothing_passes_the_entrypoint(image):
    with Room() as room, Router(room) as router:
        lab, wire = Lab(room, router, image), router.wire
        lab.join(lab.network)
        with wire.phase(BEFORE):
            lab.flood()
        # Without a config it shuts, and ends before it arms.
        lab.podman.start("early", lab.network, "--cap-add=NET_ADMIN", *SOURCE)
        assert lab.podman.do("wait", "early").strip() == "1"
        with wire.phase(SHUT):
            lab.flood()
        with wire.phase("arming"):
            lab.start_vpn()
            assert until(lab.is_healthy, within=120, step=0.2), lab.podman.logs("vpn")
        with wire.phase(ARMED):
            lab.flood()
            lab.carries()
        report = wire.stop(router.case)
        assert set(report.by_phase[BEFORE]) >= KINDS
        assert set(report.by_phase) <= {BEFORE, BETWEEN}, str(report)
        assert "failshut-start" not in lab.pod.do("nft", "list", "tables")
