"""The guide's three tests live, in a machine with a tunnel that works: held, leaking, interrupted, and void."""

from __future__ import annotations

import json
import re
import signal

import pytest

from connected import INNER, SINK_PORT
from sandbox import FAILSHUT, POLICY

pytestmark = pytest.mark.lab

QUICK = ("--yes", "--window", "1")


def verified(machine, *options):
    done = machine.failshut("verify", *QUICK, "--json", *options)
    return done, json.loads(done.stdout) if done.stdout.startswith("{") else {}


def test_a_good_lock_holds_and_the_tunnel_is_back_as_it_was(machine):
    """Every test is ok, packets were tried and refused, and the tunnel carries with the same routes, rules and tables."""
    machine.adopt_tunnel()
    machine.must(*FAILSHUT, "arm")
    before = machine.outside()

    done, report = verified(machine, "--upload", f"{INNER}:{SINK_PORT}")

    assert done.returncode == 0, done.stderr + done.stdout
    assert [each["name"] for each in report["tests"]] == ["control", "guide-1", "guide-3", "back", "guide-2", "back", "final"]
    assert {each["verdict"] for each in report["tests"]} == {"ok"}
    assert report["tests"][0]["allowed"]["transport"] > 0
    assert before == machine.outside()
    assert machine.carries()
