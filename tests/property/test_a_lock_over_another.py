"""A lock that is loaded over another changes only what differs; what the kernel holds then is the lock all the same."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failshut.arming.kernel.compare import canonical_text
from failshut.emit.nft import emit, table_text
from failshut.lower import lower
from failshut.model.host import HostFacts
from failshut.model.policy import Lan, Outside, Policy, Tunnel
from failshut.model.ruleset import Ruleset
from failshut.model.units import Endpoint, InterfaceName, Mark, Port
from failshut.read.nft.text import read_text

_TUNNEL = Tunnel(
    InterfaceName("wg0"),
    (Endpoint(ip_address("203.0.113.10"), Port(51820)),),
    fwmark=Mark(0xCA6C),
    addresses=(ip_interface("10.99.0.2/32"),),
)
_LAN = Lan((ip_network("192.168.50.0/24"),))
_NETWORKS = st.sets(st.integers(0, 255), max_size=90).map(
    lambda thirds: tuple(ip_network((50 << 24 | third << 9, 24)) for third in sorted(thirds))
)
_POLICIES = st.builds(
    lambda networks, outside, lan, dhcp: Policy(
        (_TUNNEL,), dhcp=dhcp, lan=lan, outside=Outside(networks) if outside or networks else None
    ),
    _NETWORKS,
    st.booleans(),
    st.sampled_from([None, _LAN]),
    st.booleans(),
)
_FACTS = st.sampled_from([HostFacts(underlay=()), HostFacts(underlay=(InterfaceName("lo"),))])
_LOCKS = st.builds(lower, _POLICIES, _FACTS)


@given(_LOCKS, _LOCKS)
@settings(max_examples=25, deadline=None)
def test_what_is_read_of_both_texts_is_the_lock(held, wanted):
    """As arming proves it: the listing, with the transaction behind it."""
    listing = "\n".join(table_text(table) for table in held.tables)

    read = read_text(f"{listing}\n{emit(wanted, over=held)}", "both")

    assert not [each for each in read.findings if each.is_error]
    assert canonical_text(_filled(read.ruleset)) == canonical_text(wanted)


def test_over_itself_no_chain_is_touched():
    lock = lower(Policy((_TUNNEL,), lan=_LAN), HostFacts(underlay=(InterfaceName("lo"),)))

    text = emit(lock, over=lock)

    assert "flush" not in text
    assert "chain" not in text


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft")
@given(_LOCKS, _LOCKS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_kernel_holds_what_was_loaded_over_another_lock(held, wanted):
    script = "printf '%s' \"$1\" | nft -f - && printf '%s' \"$2\" | nft -f - && nft -s list ruleset"
    argv = ["unshare", "--net", "--map-root-user", "sh", "-c", script, "sh", emit(held), emit(wanted, over=held)]

    listed = subprocess.run(argv, capture_output=True, text=True, check=False)

    assert listed.returncode == 0, listed.stderr
    assert canonical_text(_filled(read_text(listed.stdout, "the kernel").ruleset)) == canonical_text(wanted)


def _filled(ruleset: Ruleset) -> Ruleset:
    """Return the tables that have chains; one that is only emptied stays without any."""
    return Ruleset(tuple(replace(each) for each in ruleset.tables if each.chains))
