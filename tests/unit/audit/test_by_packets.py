"""Where packets and the audit once disagreed, over foreign rules: each case is the least rules that show it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from audit_answers import Answers
from failshut.audit.answer.result import Answer
from failshut.audit.prove import audit
from failshut.audit.world import World
from failshut.audit.world.infer import infer
from failshut.model.ruleset import Family, Ruleset
from failshut.model.units import Endpoint, Port, Protocol
from failshut.read.iptables import read_save
from failshut.read.nft.json import read_json
from failshut.read.nft.text import read_text

WORLD = World(tunnels=("wg0",))
SHUT = 'chain o { type filter hook output priority 0; policy drop\noifname { "lo", "wg0" } accept\n'


def nft(text: str) -> Ruleset:
    reading = read_text(text, "rules.nft")
    assert reading.findings == ()
    return reading.ruleset


def shut(rules: str, beside: str = "") -> Ruleset:
    """A table that lets out loopback, the tunnel and what `rules` accept."""
    return nft(f"table inet t {{\n{beside}\n{SHUT}{rules}\n}}\n}}\n")


def save(*rules: str, nat: tuple[str, ...] = ()) -> Ruleset:
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT DROP [0:0]", *rules, "COMMIT"]
    lines += ["*nat", ":OUTPUT ACCEPT [0:0]", *nat, "COMMIT"] if nat else []
    reading = read_save("\n".join((*lines, "")), "rules.v4", Family.IP)
    assert reading.findings == ()
    return reading.ruleset


def answers(ruleset: Ruleset, world: World = WORLD) -> Answers:
    return Answers(ruleset, world)


class TestFields:
    """A field that a packet has not ends its rule."""

    def test_icmpv6_in_a_table_of_both_families_is_not_for_ipv4(self):
        """Nft asks for the IP version too: protocol 58 over IPv4 is not ICMPv6."""
        found = answers(shut("icmpv6 type echo-request accept"))

        assert (found["icmp4"], found["icmp6"]) == (Answer.PROVED, Answer.LEAK)

    def test_icmpv6_in_a_table_of_ipv4_is_whatever_has_its_number(self):
        """There nft does not ask; the control of the test above."""
        found = answers(nft("table ip t { chain o { type filter hook output priority 0; policy drop; icmpv6 type 8 accept\n}\n}"))

        assert found["icmp4"] is Answer.LEAK

    def test_a_set_that_a_rule_fills_by_ipv4_addresses_lets_no_ipv6_through(self):
        """The key of `update @seen { ip daddr }` is lacking in IPv6."""
        found = answers(shut("update @seen { ip daddr } accept", "set seen { type ipv4_addr; flags dynamic; size 9\n}"))

        assert (found["new-flow4"], found["new-flow6"]) == (Answer.LEAK, Answer.PROVED)

    def test_a_set_that_is_not_known_needs_its_key_all_the_same(self):
        """Who knows what is in the set; an IPv6 packet is not."""
        found = answers(shut("ip daddr @seen accept", "set seen { type ipv4_addr; flags dynamic; size 9\n}"))

        assert (found["new-flow4"], found["new-flow6"]) == (Answer.POSSIBLE, Answer.PROVED)

    def test_what_time_takes_out_of_a_set_was_in_it(self):
        """An element with a timeout is there or gone; no other address comes in by itself."""
        timed = "set hosts { type ipv4_addr . inet_service; flags timeout; elements = { 203.0.113.7 . 51820 timeout 1h }\n}"
        world = World(tunnels=("wg0",), endpoints=infer(shut("ip daddr . udp dport @hosts accept", timed)).endpoints)
        found = answers(shut("ip daddr . udp dport @hosts accept", timed), world)

        assert [str(each) for each in world.endpoints] == ["203.0.113.7:51820"]
        assert (found["new-flow4"], found["endpoint-port4"]) == (Answer.PROVED, Answer.PROVED)
        assert found["handshake-out4"] is Answer.WORKS

    def test_a_packet_of_ipv4_says_so(self):
        """`ip version 4 drop` is for all of them: no socket writes another version."""
        assert (
            answers(nft("table inet t { chain o { type filter hook output priority 0\nip version 4 drop\n}\n}"))["new-flow4"]
            is Answer.PROVED
        )

    def test_a_header_that_a_packet_lacks_says_nothing_of_it(self):
        """What ufw refuses first, IPv6 with a routing header of type 0, is not what a program sends."""
        found = answers(shut("rt type 0 drop\nct state established accept"))

        assert (found["established6"], found["new-flow6"]) == (Answer.LEAK, Answer.PROVED)

    @pytest.mark.parametrize("rule", ["rt type 0 accept", "rt type != 0 accept", "dst nexthdr tcp accept"])
    def test_a_program_may_put_it_there(self, rule):
        """The control: what asks for a header lets packets out that have it, of IPv6 only."""
        found = answers(shut(rule))

        assert (found["new-flow4"], found["new-flow6"]) == (Answer.PROVED, Answer.LEAK)


class TestSenders:
    """Who sends: an ordinary program has neither a mark on its socket nor a control group that rules name."""

    @pytest.mark.parametrize("match", ["socket mark 0x77", "socket transparent 1", 'socket cgroupv2 level 1 "vpn.slice"'])
    def test_what_only_some_sockets_have_is_an_exemption(self, match):
        """`new-flow` is about programs that nothing was promised to."""
        rules = shut(f"{match} accept")
        found = answers(rules, infer(rules))

        assert (found["new-flow4"], found["exempt4"]) == (Answer.PROVED, Answer.LEAK)


class TestTranslation:
    """A translated packet goes where its rule says."""

    def test_lookups_that_are_sent_into_the_tunnel_do_not_leave_beside_it(self):
        """All of UDP's lookups go to the tunnel's resolver; that the LAN is open does not let them out."""
        nat = "-A OUTPUT -p udp --dport 53 -j DNAT --to-destination 10.8.0.1"
        rules = save("-A OUTPUT -d 192.168.1.0/24 -p udp --dport 53 -j ACCEPT", nat=(nat,))

        assert answers(rules)["dns4"] is Answer.PROVED

    def test_without_the_translation_they_leave(self):
        """The control."""
        rules = save("-A OUTPUT -d 192.168.1.0/24 -p udp --dport 53 -j ACCEPT")

        assert answers(rules)["dns4"] is Answer.LEAK

    def test_what_is_redirected_goes_to_this_machine(self):
        """`REDIRECT` of local packets is to 127.0.0.1, and to nowhere else that the rules accept."""
        rules = save(
            "-A OUTPUT -d 198.51.100.0/24 -p tcp --dport 9040 -j ACCEPT", nat=("-A OUTPUT -p tcp -j REDIRECT --to-ports 9040",)
        )

        assert answers(rules)["new-flow4"] is Answer.PROVED

    LOOKUPS = "chain n { type nat hook output priority -100\nudp dport 53 dnat ip to 10.8.0.1\ntcp dport 53 redirect to :5353\n}\n"

    def test_a_known_connection_goes_where_a_rule_may_have_sent_it(self):
        """That lookups are sent into the tunnel takes no upload out of it: it is not routed anew (nf_nat_ipv4_local_fn)."""
        found = answers(shut("", self.LOOKUPS))

        assert {each: found[each] for each in ("established4", "established6", "new-flow4")} == dict.fromkeys(
            ("established4", "established6", "new-flow4"), Answer.PROVED
        )

    @pytest.mark.parametrize("target", ["198.51.100.7", "198.51.100.0/24", "ip daddr map { 192.0.2.1 : 198.51.100.7 }"])
    def test_a_connection_that_was_sent_past_the_tunnel_goes_on_there(self, target):
        """The control: to lo by its first route, then to where its rule says, and the filter has seen lo."""
        found = answers(shut("", f"chain n {{ type nat hook output priority -100\ntcp dport 80 dnat ip to {target}\n}}\n"))

        assert found["established4"] is not Answer.PROVED
        assert found["established6"] is Answer.PROVED

    def test_nothing_is_translated_where_no_rule_translates(self):
        """`ct status dnat accept`, as firewalld and OpenWrt have it, is for forwarded ports; with one, it lets packets out."""
        forwarded = "chain p { type nat hook prerouting priority -100\ntcp dport 80 dnat ip to 10.8.0.1\n}\n"

        assert answers(shut("ct status dnat accept"))["new-flow4"] is Answer.PROVED
        assert answers(shut("ct status dnat accept", forwarded))["new-flow4"] is Answer.LEAK

    def test_a_translation_to_ipv4_leaves_ipv6_alone(self):
        """`dnat ip to` in a table of both families is for one of them."""
        nat = "chain n { type nat hook output priority -100\nudp dport 53 dnat ip to 10.8.0.1\nudp dport 53 redirect to :99\n}\n"
        rules = shut("ip6 daddr fd00::/8 udp dport 53 accept", nat)

        assert answers(rules)["dns6"] is Answer.PROVED

    def test_where_a_map_sends_a_packet_is_not_known(self):
        """No leak that is certain comes of it."""
        nat = "chain n { type nat hook output priority -100\ndnat ip to ip daddr map { 198.51.100.1 : 10.8.0.1 }\n}\n"

        assert answers(shut("ip daddr 192.0.2.0/25 ip daddr != 192.0.2.1 accept", nat))["new-flow6"] is Answer.PROVED

    def test_a_copy_is_a_packet_of_its_own(self):
        """What `dup` sends goes past every chain of the output again, which may refuse it."""
        found = answers(
            shut("udp dport 53 drop", "chain d { type filter hook output priority -9\nudp dport 53 dup to 192.168.1.1\n}")
        )

        assert (found["dns4"], found["new-flow4"]) == (Answer.POSSIBLE, Answer.PROVED)


class TestPlaces:
    """Where a packet can go at all."""

    def test_a_lookup_to_loopback_is_none_past_the_tunnel(self):
        """Only who ties a socket to the device sends that out, and nobody answers."""
        found = answers(save("-A OUTPUT -d 127.0.0.0/8 -j ACCEPT"))

        assert found["dns4"] is Answer.PROVED

    @pytest.mark.parametrize(
        ("rule", "family"), [("ip daddr 0.0.0.0 accept", 4), ("ip6 daddr { ff00::/16, ff01::/16, ff11::/16 } accept", 6)]
    )
    def test_what_no_device_sends_does_not_leave(self, rule, family):
        """0.0.0.0 is this machine, and the scope of such groups ends in it."""
        assert answers(shut(rule))[f"lan{family}"] is Answer.PROVED

    def test_groups_of_the_link_leave(self):
        """The control."""
        assert answers(shut("ip6 daddr ff02::/16 accept"))["lan6"] is Answer.LEAK


class TestGateways:
    """A gateway for others: what comes out of the tunnel is no leak of what should go into it."""

    RULES = (
        "-A FORWARD -i eth1 -o wg0 -j ACCEPT",
        "-A FORWARD -i wg0 -o eth1 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    )

    def test_answers_go_on_to_who_asked(self):
        """The usual two rules of a gateway are proved."""
        found = answers(save(*self.RULES))

        assert (found["forwarded4"], found["from-tunnel4"]) == (Answer.PROVED, Answer.PROVED)

    def test_who_may_open_flows_from_the_tunnel_is_noted(self):
        """Someone behind the tunnel, such as a client of this machine's own server, goes on in the clear."""
        found = answers(save(*self.RULES, "-A FORWARD -i wg0 -j ACCEPT"))

        assert (found["forwarded4"], found["from-tunnel4"]) == (Answer.PROVED, Answer.LEAK)

    def test_a_client_that_goes_past_the_tunnel_is_a_leak(self):
        """The control."""
        assert answers(save(*self.RULES, "-A FORWARD -i eth1 -j ACCEPT"))["forwarded4"] is Answer.LEAK


class TestDevices:
    """Below IP a chain is called for its own devices."""

    def test_a_chain_whose_device_is_not_said_proves_nothing(self):
        """Nft 1.0.6 leaves the device out of its JSON."""
        chain = '{"family":"netdev","table":"t","name":"e","type":"filter","hook":"egress","prio":0,"policy":"drop"}'
        found = answers(
            read_json(f'{{"nftables":[{{"table":{{"family":"netdev","name":"t"}}}},{{"chain":{chain}}}]}}', "nft -j").ruleset
        )

        assert (found["new-flow4"], found["loopback-out4"]) == (Answer.POSSIBLE, Answer.POSSIBLE)


class TestStates:
    """What a rule before conntrack says of a connection holds behind it, and nothing else of what was there before."""

    def test_untracking_some_packets_says_nothing_of_the_others(self):
        """The state of what was not untracked is its own, not one that nobody knows."""
        raw = "table ip raw { chain o { type filter hook output priority raw; udp dport 4444 notrack\n}\n}\n"
        found = answers(nft(raw + f"table inet t {{\n{SHUT}ct state established accept\n}}\n}}\n"))

        assert (found["new-flow4"], found["established4"]) == (Answer.PROVED, Answer.LEAK)


def test_what_is_unknown_is_unknown_anew_at_every_call():
    """A chain that a map calls twice is not taken for one that has nothing unknown in it."""
    text = """*filter
:OUTPUT DROP [0:0]
:leaf - [0:0]
-A OUTPUT -p tcp --dport 1 -j leaf
-A OUTPUT -p tcp --dport 1 -j leaf
-A leaf -m strange -j ACCEPT
COMMIT
"""
    found = audit(read_save(text, "rules.v4", Family.IP).ruleset, WORLD)
    new = next(each for each in found if (each.question.name, each.family) == ("new-flow", 4))

    assert len({each.place for each in new.approximations}) == 2


class TestInference:
    """What is inferred is what a reader of the rules would say; what is assumed is said."""

    @pytest.mark.parametrize(
        "rule", ['oifname "office" accept', 'oifname != { "office", "lo" } drop', 'oifname != "office" reject']
    )
    def test_a_device_that_all_may_leave_by_is_the_tunnel_whatever_its_name(self, rule):
        """A tunnel may be called as its owner likes."""
        world = infer(nft(f"table inet t {{ chain o {{ type filter hook output priority 0\n{rule}\n}}\n}}"))

        assert (world.tunnels, world.assumed) == (("office",), ())

    def test_where_no_rule_tells_the_tunnel_that_is_said(self):
        """`wg0` and `tun0` are a guess."""
        world = infer(nft("table inet t { chain o { type filter hook output priority 0; policy drop\noifname eth0 accept\n}\n}"))

        assert (world.tunnels, world.assumed) == (("wg0", "tun0"), ("tunnels",))

    @pytest.mark.parametrize(
        "rule",
        [
            "ip daddr . udp dport { 203.0.113.7 . 51820 } accept",
            "ip daddr . meta l4proto . th dport { 203.0.113.7 . udp . 51820 } accept",
            "ip daddr . udp dport vmap { 203.0.113.7 . 51820 : accept, 198.51.100.1 . 51820 : drop }",
        ],
    )
    def test_an_endpoint_in_a_concatenation_is_found(self, rule):
        """Address and port side by side, as current guides write it."""
        assert infer(shut(rule)).endpoints == (Endpoint(ip_address("203.0.113.7"), Port(51820), Protocol.UDP),)


class TestKinds:
    """What the routing table says of an address that the internet has."""

    def test_groups_and_broadcasts_are_not_on_the_internet(self):
        """`fib daddr type { broadcast, multicast } accept` lets out what is near, and no flow."""
        found = answers(shut("fib daddr type { local, broadcast, multicast } accept"))

        assert (found["new-flow4"], found["new-flow6"], found["lan4"]) == (Answer.PROVED, Answer.PROVED, Answer.LEAK)

    def test_no_address_of_the_internet_is_of_a_link(self):
        """A broadcast or an anycast address is one of a link's own."""
        found = answers(shut("fib daddr type { broadcast, anycast } accept"))

        assert (found["new-flow4"], found["new-flow6"], found["lan6"]) == (Answer.PROVED, Answer.PROVED, Answer.LEAK)

    def test_what_leaves_has_no_kind_of_frame_yet(self):
        """`meta pkttype multicast` is of what comes in: a group's packet that goes out is none."""
        found = answers(shut("meta pkttype { broadcast, multicast } accept"))

        assert (found["new-flow4"], found["lan4"], found["lan6"]) == (Answer.PROVED, Answer.PROVED, Answer.PROVED)


class TestOrder:
    """Chains of one priority are called in the order in which they were made, which no text tells."""

    def test_what_only_one_order_lets_out_is_possible(self):
        """One table marks, the other lets marked packets out."""
        one = "table ip a { chain o { type filter hook output priority 0\ntcp dport 443 meta mark set 7\n}\n}\n"
        two = "table ip b { chain o { type filter hook output priority 0; policy drop\nmeta mark 7 accept\n}\n}\n"

        assert answers(nft(one + two))["new-flow4"] is Answer.POSSIBLE
