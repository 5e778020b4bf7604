"""Arming what is armed already: nothing is loaded where nothing has changed, and what differs where anything has."""

from __future__ import annotations

import pytest

from sandbox import CONFIG, POLICY, Sandbox

UNCHANGED = "nothing has changed"
# What was written this very second may be written again unseen, and is not relied on.
AGED = ("touch", "-d", "1 hour ago", "/etc/failshut/failshut.toml", "/etc/wireguard/wg0.conf", "/etc/passwd")


@pytest.fixture(scope="module")
def armed():
    with Sandbox() as sandbox:
        sandbox.write("/etc/wireguard/wg0.conf", CONFIG)
        sandbox.write("/etc/failshut/failshut.toml", POLICY)
        sandbox.run(*AGED)
        assert sandbox.failshut("arm").returncode == 0
        yield sandbox


def test_where_nothing_has_changed_nothing_is_loaded(armed):
    """The kernel's rules are the same objects afterwards, by their handles; the answer is the same as of a whole arming."""
    before = armed.run("nft", "-a", "list", "ruleset").stdout

    done = armed.failshut("arm")

    assert (done.returncode, UNCHANGED in done.stderr) == (0, True), done.stderr
    assert done.stdout.startswith("Armed. Nothing leaves but through wg0")
    assert armed.run("nft", "-a", "list", "ruleset").stdout == before


CHANGES = {
    "a rule more": ("nft", "insert rule inet failshut postrouting accept"),
    "a rule less": ("nft", "flush chain inet failshut postrouting"),
    "the tables are gone": ("nft", "flush ruleset"),
    "the policy says more": ("sh", "-c", "printf '[log]\\nblocked = \"nflog\"\\n' >> /etc/failshut/failshut.toml"),
    "the tunnel's config": ("sh", "-c", "sed -i 's/203.0.113.10/203.0.113.11/' /etc/wireguard/wg0.conf"),
    "a user more": ("sh", "-c", "echo 'nobody-else:x:4711:4711::/:/bin/false' >> /etc/passwd"),
    "a device more": ("ip", "link", "add", "usb7", "type", "veth", "peer", "name", "usb8"),
    "a sealed file": ("sh", "-c", "echo '# cut' >> /etc/failshut/armed/current/lock.nft"),
    "the loader": ("sh", "-c", "echo '# other' >> /etc/failshut/load"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_has_changed_is_armed_anew(armed, change):
    """Each thing that a lock is made of, or held by: arming does all of its work, and then the lock is as it should be."""
    assert UNCHANGED in armed.failshut("arm").stderr, "the control: without the change nothing is done"
    assert armed.run(*CHANGES[change]).returncode == 0

    armed.run(*AGED)
    done = armed.failshut("arm")

    assert (done.returncode, UNCHANGED in done.stderr) == (0, False), done.stderr
    assert armed.failshut("status").stdout.split()[:2] == ["lock", "armed"]


def test_a_pipe_in_the_policy_s_place_is_said_and_not_waited_for(armed):
    """The lock stays as it is."""
    armed.run("sh", "-c", "mv /etc/failshut/failshut.toml /run/kept && mkfifo /etc/failshut/failshut.toml")

    done = armed.failshut("arm")
    armed.run("mv", "/run/kept", "/etc/failshut/failshut.toml")

    assert (done.returncode, "it is not a regular file" in done.stderr) == (2, True), done.stderr
    assert armed.failshut("status").stdout.split()[:2] == ["lock", "armed"]


def test_what_was_open_for_a_time_is_no_reason_to_stay_as_it_is(armed):
    """While something is open, nothing has changed; once nothing is, arming takes the rules for it out."""
    assert armed.failshut("allow", "to", "192.0.2.7:443/tcp", "--for", "10m").returncode == 0
    armed.run(*AGED)
    assert armed.failshut("arm").returncode == 0
    assert UNCHANGED in armed.failshut("arm").stderr
    assert armed.failshut("plan", "--exit-code").returncode == 0
    assert armed.failshut("revoke", "--all").returncode == 0

    done = armed.failshut("arm")

    assert (done.returncode, UNCHANGED in done.stderr) == (0, False), done.stderr
    assert "timed" not in armed.run("nft", "list", "table", "inet", "failshut").stdout


def test_only_what_differs_is_loaded_and_what_is_not_wanted_goes():
    """A prefix more, then another in its place, then no [outside]: the other chains are the same objects by their handles."""
    with Sandbox() as sandbox:
        sandbox.write("/etc/wireguard/wg0.conf", CONFIG)
        handles = set()
        for prefixes in (["198.51.100.0/24"], ["198.51.100.0/24", "192.0.2.7/32", "2001:db8:7::/48"], ["192.0.2.7/32"]):
            sandbox.write("/etc/failshut/failshut.toml", f"{POLICY}\n[outside]\nprefixes = {prefixes}\n")
            done = sandbox.failshut("arm")
            assert done.returncode == 0, done.stderr
            handles.add(sandbox.run("nft", "-a", "list", "chain", "inet", "failshut", "postrouting").stdout)
            assert _routes(sandbox) == sorted(prefixes)
        assert len(handles) == 1
        assert "outside-programs" in sandbox.run("nft", "list", "sets").stdout, "the control"

        sandbox.write("/etc/failshut/failshut.toml", POLICY)
        done = sandbox.failshut("arm")

        assert done.returncode == 0, done.stderr
        assert "outside-programs" not in sandbox.run("nft", "list", "sets").stdout
        assert _routes(sandbox) == []
        assert sandbox.failshut("status").stdout.split()[:2] == ["lock", "armed"]


def _routes(sandbox):
    """Return what is looked up beside the tunnel, as prefixes."""
    listed = [
        (line.split()[1], width)
        for family, width in (("-4", 32), ("-6", 128))
        for line in sandbox.run("ip", family, "route", "show", "table", "all", "protocol", "245").stdout.splitlines()
    ]
    return sorted(each if "/" in each else f"{each}/{width}" for each, width in listed)
