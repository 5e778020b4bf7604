"""Other tools' rules on the same machine."""

from lab.drilling import drills


@drills("accept-everything")
def test_a_table_that_accepts_everything_opens_nothing(held):
    """At every hook, before and after the lock."""
    held("accept-everything")


@drills("iptables-accept")
def test_iptables_opens_nothing(held):
    """-F, -X, -P ACCEPT, -I ACCEPT, both backends, both families."""
    held("iptables-accept")


@drills("rerouting-mark")
def test_a_rerouting_mark_leads_nothing_out(held):
    """The tunnel's own mark, set by another table's route chain."""
    held("rerouting-mark")


@drills("late-rerouting-mark")
def test_a_late_rerouting_mark_leads_nothing_out(held):
    """After the lock's output chain."""
    held("late-rerouting-mark")


@drills("rewritten")
def test_rewritten_destinations_are_judged_as_they_leave(held):
    """DNAT from the LAN and from the server to the Internet."""
    held("rewritten")


@drills("source-rewritten")
def test_rewritten_sources_open_nothing(held):
    """Masqueraded to the right source."""
    held("source-rewritten")


@drills("copied")
def test_copied_packets_leak_nothing(held):
    """dup in IP and under it."""
    held("copied")
