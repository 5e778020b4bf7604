"""A thousand short lives inside while a thousand are outside: no packet of any of them on the wrong side."""

from __future__ import annotations

import pytest

from grouped import INTERNET4, INTERNET6
from sandbox import FAILSHUT

pytestmark = pytest.mark.lab

LIVES = 1000
# Each is a process that sends by each family as the first thing it does, and is gone.
STORM = f"""
n=0
while [ $n -lt $2 ]; do
	n=$((n + 1))
	bash -c 'echo $0 >/dev/udp/{INTERNET4}/9001; echo $0 >/dev/udp/{INTERNET6}/9001' "$1-$n" 2>/dev/null &
	[ $((n % 20)) = 0 ] && wait
done
wait
"""


def lives(frames, device: str, word: str) -> set[tuple[str, str]]:
    """Return who was seen where: the life's name, and the address it spoke to."""
    return {(each.payload.strip(), each.target) for each in frames if each.device == device and each.payload.startswith(word)}


def expected(word: str, number: int = LIVES) -> set[tuple[str, str]]:
    return {(f"{word}-{n}", host) for n in range(1, number + 1) for host in (INTERNET4, INTERNET6)}


@pytest.mark.timeout(600)
def test_a_thousand_inside_and_a_thousand_outside_never_mix(grouped):
    """All that was sent arrived, each on its own side. The control: ten of those inside, started outside, are seen in the clear."""
    grouped.arm("[outside]")
    grouped.write("/run/storm", STORM)
    grouped.watch()

    outside = grouped.start(*FAILSHUT, "exec", "--outside", "--", "sh", "/run/storm", "outside", str(LIVES))
    inside = grouped.start("sh", "/run/storm", "inside", str(LIVES))
    assert (outside.wait(300), inside.wait(300)) == (0, 0)
    grouped.outside_of_tunnel("sh", "/run/storm", "stray", "10")
    frames = grouped.seen()
    for each in (outside, inside):
        each.communicate()

    assert lives(frames, "cable", "inside") == set()
    assert lives(frames, "served", "outside") == set()
    assert lives(frames, "cable", "outside") == expected("outside")
    assert lives(frames, "served", "inside") == expected("inside")
    assert lives(frames, "cable", "stray") == expected("stray", 10)
