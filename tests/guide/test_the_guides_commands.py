"""The guide's commands, in their order, on machines that really boot; and what the pages promise, in packets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from boot import roots
from boot.machine import Machine
from connected import Frame
from failshut.drill.network.wait import until
from guide.blocks import Block, blocks
from guide.machines import HOME4, SITE4, VPS4, Guide, seen

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

PAGES = Path(__file__).parents[2] / "docs/guide"
# The second page is of the laptop of the first.
ORDER = ("kill-switch.md", "from-your-rules.md")
# Needs an image: what it says is tried by tests/container.
ELSEWHERE = {"container.md"}
_POLICY = "/etc/failshut/failshut.toml"


def every_block() -> list[Block]:
    """Return every block of the guide, in order."""
    return [block for page in ORDER for block in blocks(PAGES / page)]


def test_every_block_of_every_page_is_run_or_says_why_not():
    """A block for no machine would be run by nobody."""
    assert {each.name for each in PAGES.glob("*.md")} == {*ORDER, *ELSEWHERE}
    assert {each.where for each in every_block()} <= {"laptop", "vps", "skip"}
    assert {each.language for each in every_block()} == {"sh", "toml"}
    assert all(len(each.words) > 1 for each in every_block() if each.where == "skip")


def test_the_guide(tree_of):
    """From a bare VPS to a locked laptop, through a reboot of both, and back."""
    with Guide(tree_of(roots.WORKSHOP)) as guide:
        let_in(guide)
        assert guide.fetch() == HOME4, "the control: before, the site sees the laptop itself"
        watching = guide.internet.watch()
        guide.fetch()
        assert [each for each in seen(watching) if each.target == SITE4], "the control: nothing was seen to leave"
        waiting = dict(CHECKS)
        for block in every_block():
            if block.where == "skip":
                warnings.warn(f"NOT RUN: {block.page}: {' '.join(block.words[1:])}: {block.text.strip()}", stacklevel=1)
                continue
            run(guide, block)
            for words in [each for each in waiting if each in block.text]:
                waiting.pop(words)(guide)
        assert not waiting, "a check found no block of its own"


def let_in(guide: Guide) -> None:
    """Let the laptop's root log in to the VPS by key, as the guide takes for granted."""
    made = guide.laptop.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
    assert made.ok, made.complaint
    guide.laptop.write("/root/.ssh/config", "StrictHostKeyChecking accept-new\n")
    guide.vps.write("/root/.ssh/authorized_keys", guide.laptop.read("/root/.ssh/id_ed25519.pub"))


def run(guide: Guide, block: Block) -> None:
    """Run a block on its machine, in root's home."""
    machine: Machine = getattr(guide, block.where)
    if block.language == "toml":
        machine.write(_POLICY, f"{machine.read(_POLICY)}\n{block.text}")
    elif block.text.strip() == "sudo systemctl reboot":
        assert machine.reboot() == "running", machine.journal()
    else:
        done = machine.run("bash", "-euo", "pipefail", "-c", f"cd\n{block.text}", timeout=300)
        assert done.code == block.code, f"{block.page}:\n{block.text}\n{done.out}\n{done.err}\n{machine.journal()[-3000:]}"


def holds(guide: Guide) -> None:
    """The site sees the server; without the tunnel nothing leaves; the server answers by SSH, and after a reboot as before."""
    assert until(lambda: guide.fetch() == VPS4, within=60, step=0.2)
    assert guide.laptop.run("systemctl", "stop", "wg-quick@wg0").ok
    watching = guide.internet.watch()
    assert guide.laptop.run("curl", "--silent", "--max-time", "3", f"http://{SITE4}/").code != 0
    assert guide.laptop.run("curl", "--silent", "--max-time", "3", "http://www.example.net/").code != 0
    assert [each for each in seen(watching) if each.protocol in ("tcp", "udp")] == []
    assert guide.laptop.run("systemctl", "start", "wg-quick@wg0").ok
    # It flushes every table; the server's own come back with it.
    assert guide.vps.run("systemctl", "restart", "nftables").ok
    assert guide.vps.eventually("nft", "list", "table", "inet", "failshut-server"), guide.vps.journal()
    assert guide.vps.reboot() == "running", guide.vps.journal()
    assert until(lambda: guide.fetch() == VPS4, within=90, step=0.5), guide.vps.journal()[-3000:]
    banner = "import socket; s = socket.create_connection(('203.0.113.10', 22), 10); print(s.recv(4).decode())"
    assert guide.internet.namespace.do("python3", "-c", banner).strip() == "SSH-"


def without_its_routing_rules(guide: Guide) -> list[Frame]:
    """Take wg-quick's routing rules away while the tunnel is up, and return what then leaves for the site in the clear."""
    assert until(lambda: guide.fetch() == VPS4, within=60, step=0.2), guide.laptop.journal()[-3000:]
    lose = "for v in -4 -6; do ip $v rule delete table $(($(wg show wg0 fwmark))); done"
    watching = guide.internet.watch()
    lost = guide.laptop.run("sh", "-c", lose)
    guide.laptop.run("curl", "--silent", "--max-time", "3", f"http://{SITE4}/")
    frames = [each for each in seen(watching) if each.target == SITE4]
    assert lost.ok, lost.complaint
    assert guide.laptop.run("systemctl", "restart", "wg-quick@wg0").ok, guide.laptop.journal()[-3000:]
    return frames


def keeps_all_in(guide: Guide) -> None:
    """A tunnel that is up without its routing is the guide's own leak: nothing leaves."""
    assert without_its_routing_rules(guide) == []


def lets_all_out(guide: Guide) -> None:
    """The control, once the lines are taken out again: the same is seen to leave."""
    assert without_its_routing_rules(guide) != []


# By the words of the first block after which each is to hold.
CHECKS: dict[str, Callable[[Guide], None]] = {
    "failshut arm": holds,
    "wg0 --install": keeps_all_in,
    "wg0 --remove": lets_all_out,
    "grep --count FAILSHUT": keeps_all_in,
    "--list-rules": keeps_all_in,
}
