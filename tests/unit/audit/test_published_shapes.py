"""What people write into a kill switch and the audit once answered worse than it could: the least rules that show it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from audit_answers import Answers
from failshut.audit.answer.explain import explain
from failshut.audit.answer.result import Answer
from failshut.audit.netfilter.accounts import names_in
from failshut.audit.prove import audit
from failshut.audit.world import World
from failshut.audit.world.infer import infer
from failshut.drill.replay.rules import of_files
from failshut.model.finding import Code
from failshut.model.ruleset import Family, Ruleset
from failshut.model.units import Endpoint, Port, Protocol
from failshut.read import read_rulesets
from failshut.read.files.joined import together
from failshut.read.iptables import read_save
from failshut.read.nft.text import read_text

WORLD = World(tunnels=("wg0",))
SERVED = World(tunnels=("wg0",), endpoints=(Endpoint(ip_address("203.0.113.7"), Port(51820), Protocol.UDP),))


def nft(rules: str, beside: str = "") -> Ruleset:
    """An output chain that lets out loopback, the tunnel and what `rules` accept."""
    shut = 'chain o { type filter hook output priority 0; policy drop\noifname { "lo", "wg0" } accept\n'
    reading = read_text(f"table inet t {{\n{beside}\n{shut}{rules}\n}}\n}}\n", "rules.nft")
    assert reading.findings == ()
    return reading.ruleset


def nft_text(rules: str) -> Ruleset:
    """An output chain that lets out what `rules` accept and nothing else."""
    return read_text(
        f"table inet t {{\nchain o {{ type filter hook output priority 0; policy drop;\n{rules}\n}}\n}}\n", "r"
    ).ruleset


def nft_open(rules: str) -> Ruleset:
    """An output chain that lets out all that `rules` do not refuse."""
    return read_text(f"table inet t {{\nchain o {{ type filter hook output priority 0;\n{rules}\n}}\n}}\n", "r").ruleset


def save_open(*rules: str) -> Ruleset:
    return read_save("\n".join(["*filter", ":OUTPUT ACCEPT [0:0]", *rules, "COMMIT", ""]), "rules.v4", Family.IP).ruleset


def save(*rules: str) -> Ruleset:
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT DROP [0:0]", *rules, "COMMIT", ""]
    reading = read_save("\n".join(lines), "rules.v4", Family.IP)
    assert reading.findings == ()
    return reading.ruleset


def answers(ruleset: Ruleset, world: World = WORLD) -> Answers:
    return Answers(ruleset, world)


def every_answer(ruleset: Ruleset, world: World) -> dict[str, Answer]:
    return {f"{each.question.name}{each.family}": each.answer for each in audit(ruleset, world)}


class TestNamesOfUsers:
    """`--uid-owner debian-tor` exempts that user, whichever number the machine gave it."""

    def test_a_user_that_is_named_is_exempt_and_nobody_else(self):
        """An ordinary program is another's."""
        for rules in (save("-A OUTPUT -m owner --uid-owner debian-tor -j ACCEPT"), nft('meta skuid "debian-tor" accept')):
            found = answers(rules)

            assert (found["new-flow4"], found["exempt4"]) == (Answer.PROVED, Answer.LEAK)

    def test_everybody_but_a_user_is_an_ordinary_program_too(self):
        """The control: negated, the same rule lets it out."""
        for rules in (save("-A OUTPUT -m owner ! --uid-owner debian-tor -j ACCEPT"), nft('meta skuid != "debian-tor" accept')):
            assert answers(rules)["new-flow4"] is Answer.LEAK

    def test_a_witness_says_the_name(self):
        """Not the number that stands for it."""
        result = answers(nft("meta skuid tor accept")).result("exempt4")

        assert "(uid tor, gid 1000)" in explain(result, result.witnesses[0]).packet

    def test_names_in_a_set_are_names(self):
        """Of a named set, and in a concatenation."""
        users = "set users { type uid; elements = { vpn, 1600-1609 }\n}"
        for rules in (nft("meta skuid @users accept", users), nft('meta skuid . oifname { vpn . "eth0" } accept')):
            found = answers(rules)

            assert (found["new-flow4"], found["exempt4"]) == (Answer.PROVED, Answer.LEAK)

    def test_names_are_those_of_accounts_alone(self):
        """Neither a set's own name, nor a number is one."""
        users = "set users { type uid; elements = { vpn, 1600-1609 }\n}"

        assert names_in(nft('meta skuid { 7, "tor" } accept\nmeta skuid @users accept\nmeta skgid root accept', users)) == (
            "tor",
            "vpn",
        )


class TestWhereTheTunnelLeads:
    """The server, by what the rules say of it."""

    def test_a_server_that_is_open_whole_is_reached_on_every_port(self):
        """`-d SERVER -j ACCEPT`: what else listens there gets what any program sends (TunnelCrack, CVE-2023-36673)."""
        rules = save("-A OUTPUT -o lo -j ACCEPT", "-A OUTPUT -o wg0 -j ACCEPT", "-A OUTPUT -d 203.0.113.7/32 -j ACCEPT")

        assert answers(rules, infer(rules))["endpoint-port4"] is Answer.LEAK

    def test_a_server_that_is_open_on_its_own_port_is_not(self):
        """The control; that any program may use that port is noted."""
        rules = save("-A OUTPUT -o wg0 -j ACCEPT", "-A OUTPUT -d 203.0.113.7/32 -p udp -m udp --dport 51820 -j ACCEPT")
        found = answers(rules, infer(rules))

        assert (found["endpoint-port4"], found["endpoint-program4"]) == (Answer.PROVED, Answer.LEAK)

    def test_what_ike_has_agreed_on_is_the_tunnel_s(self):
        """ESP to the server is no other port of it; to a server of another kind it is."""
        esp = "-A OUTPUT -d 203.0.113.7/32 -p esp -j ACCEPT"
        for port, answer in ((4500, Answer.PROVED), (51820, Answer.LEAK)):
            rules = save(f"-A OUTPUT -d 203.0.113.7/32 -p udp -m udp --dport {port} -j ACCEPT", esp)
            found = answers(rules, infer(rules))

            assert (found["endpoint-port4"], found["endpoint-program4"]) == (answer, Answer.LEAK)

    def test_another_host_beside_an_endpoint_is_the_authors_exception(self):
        """It is noted as such."""
        rules = save(
            "-A OUTPUT -o wg0 -j ACCEPT",
            "-A OUTPUT -d 203.0.113.7/32 -p udp -m udp --dport 51820 -j ACCEPT",
            "-A OUTPUT -d 198.51.100.9/32 -j ACCEPT",
        )
        found = answers(rules, infer(rules))

        assert infer(rules).servers == ()
        assert (found["endpoint-port4"], found["named4"]) == (Answer.PROVED, Answer.LEAK)

    def test_a_server_in_the_local_network_is_one_where_its_port_says_so(self):
        """A web page there is none."""
        rules = save(
            "-A OUTPUT -o wg0 -j ACCEPT",
            "-A OUTPUT -d 192.168.1.5/32 -p udp -m udp --dport 51820 -j ACCEPT",
            "-A OUTPUT -d 192.168.1.6/32 -p udp -m udp --dport 8080 -j ACCEPT",
        )

        assert [str(each) for each in infer(rules).endpoints] == ["192.168.1.5:51820"]

    def test_what_rules_that_refuse_the_rest_leave_alone_is_said_by_them(self):
        """`! -d SERVER -j DROP`: the server is the tunnel's, and the prefix the local network."""
        rules = save_open("-A OUTPUT ! -d 203.0.113.7/32 -o eth0 -j DROP", "-A OUTPUT ! -d 203.0.113.7/32 ! -o eth0 -j DROP")
        spared = nft_open('oifname != { "lo", "wg0" } ip daddr != { 203.0.113.7, 192.168.1.0/24 } drop')
        found = answers(rules, infer(rules))

        assert (found["new-flow4"], found["endpoint-port4"]) == (Answer.PROVED, Answer.LEAK)
        assert [str(each) for each in (*infer(spared).servers, *infer(spared).lan)] == ["203.0.113.7/32", "192.168.1.0/24"]

    def test_a_resolver_that_alone_is_spared_is_no_server(self):
        """The control: of everything else that goes there the rule says nothing."""
        rules = nft_open("udp dport 53 ip daddr != 198.51.100.9 drop")

        assert infer(rules).servers == ()

    def test_a_resolver_of_encrypted_dns_is_no_server(self):
        """`udp dport 853` is QUIC's: names are looked up there."""
        rules = nft("ip daddr 198.51.100.9 udp dport 853 accept")

        assert infer(rules).endpoints == ()
        assert answers(rules, infer(rules))["dns4"] is Answer.LEAK

    def test_rules_that_return_say_as_much_as_rules_that_accept(self):
        """A chain of its own that drops what has not returned."""
        rules = save(
            "-N KS",
            "-A OUTPUT -j KS",
            "-A KS -o office -j RETURN",
            "-A KS -d 203.0.113.7/32 -p udp -m udp --dport 51820 -j RETURN",
            "-A KS -j DROP",
        )
        world = infer(rules)

        assert (world.tunnels, [str(each) for each in world.endpoints]) == (("office",), ["203.0.113.7:51820"])

    SERVER_ALONE = ("-A OUTPUT -o tun0 -j ACCEPT", "-A OUTPUT ! -d 203.0.113.7/32 -j DROP")

    def test_a_port_that_alone_is_spared_is_the_server_s(self):
        """One rule refuses every other host, one every other port, one every other protocol."""
        rules = save_open(*self.SERVER_ALONE, "-A OUTPUT -p udp -m udp ! --dport 1194 -j DROP", "-A OUTPUT ! -p udp -j DROP")
        found = answers(rules, infer(rules))

        assert [str(each) for each in infer(rules).endpoints] == ["203.0.113.7:1194"]
        assert (found["endpoint-port4"], found["new-flow4"]) == (Answer.PROVED, Answer.PROVED)

    def test_without_a_rule_for_other_protocols_those_reach_it(self):
        """The control."""
        rules = save_open(*self.SERVER_ALONE, "-A OUTPUT -p udp -m udp ! --dport 1194 -j DROP")

        assert answers(rules, infer(rules))["endpoint-port4"] is Answer.LEAK

    def test_a_few_ports_in_a_row_are_as_many_endpoints(self):
        """`--dport 1194:1197`; of a thousand the first is one."""
        few, many = (
            infer(save(f"-A OUTPUT -d 203.0.113.7 -p udp -m udp --dport {each} -j ACCEPT")) for each in ("1194:1197", "1194:2194")
        )

        assert ([int(each.port) for each in few.endpoints], len(many.endpoints)) == ([1194, 1195, 1196, 1197], 1)


class TestWhichDeviceIsATunnel:
    """A device that is taken for a tunnel is one by which everything may leave: the guess has to be a careful one."""

    def test_a_bridge_is_none_whatever_else_its_name_says(self):
        """`wg-br` is where a namespace is plugged in."""
        rules = nft('oifname "wg-br" tcp dport 443 accept')

        assert infer(rules).tunnels == ("wg0",)
        assert answers(rules, infer(rules))["new-flow4"] is Answer.LEAK

    def test_ppp_beside_a_tunnel_is_the_uplink(self):
        """Of a provider's line: what leaves there is in the clear."""
        rules = save("-A OUTPUT -o tun0 -j ACCEPT", "-A OUTPUT -o ppp0 -p udp -m udp --dport 53 -j ACCEPT")

        assert infer(rules).tunnels == ("tun0",)
        assert answers(rules, infer(rules))["dns4"] is Answer.LEAK

    @pytest.mark.parametrize("uplink", ["wan", "pppoe-wan", "dsl0", "rmnet_data0", "em1"])
    def test_what_leads_outside_by_its_name_is_none(self, uplink):
        """OpenWrt's, a phone's; else the one way out of a router would be taken for the tunnel, and nothing leak."""
        rules = nft_text(f'oifname {{ "lo", "br-lan" }} accept\noifname "{uplink}" accept')

        assert infer(rules).assumed == ("tunnels",)
        assert answers(rules, infer(rules))["new-flow4"] is Answer.LEAK

    def test_a_chain_is_none_whatever_it_is_called(self):
        """`vmap { "office" : jump vpn }` is about the device office."""
        rules = read_text(
            "table inet t {\nchain vpn {\naccept\n}\nchain o {\ntype filter hook output priority 0; policy drop;\n"
            'oifname vmap { "lo" : accept, "office" : jump vpn }\noifname "office" accept\n}\n}\n',
            "rules.nft",
        ).ruleset

        assert infer(rules).tunnels == ("office",)

    def test_what_stands_beside_an_uplink_is_another(self):
        """`{ "eth1", "ppp0" }` are two providers' lines, and in `{ "lo", "ppp0" }` a tunnel is meant."""
        worlds = [infer(nft_text(f'oifname {{ "{beside}", "ppp0" }} accept')) for beside in ("eth1", "lo")]

        assert [(each.tunnels, each.assumed) for each in worlds] == [(("ppp0",), ()), (("ppp0",), ())]
        beside_wireguard = infer(nft_text('oifname { "eth1", "ppp0" } accept\noifname "wg0" accept'))
        assert beside_wireguard.tunnels == ("wg0",)

    def test_ppp_that_everything_may_leave_by_is_a_tunnel(self):
        """The control: PPTP's and L2TP's."""
        assert infer(save("-A OUTPUT -o ppp0 -j ACCEPT")).tunnels == ("ppp0",)


class TestGuests:
    """What goes to a container has not left the machine; what a container sends on has."""

    @pytest.mark.parametrize("bridge", ["docker0", "br-0123456789ab", "virbr0", "podman1", "lxdbr0"])
    def test_a_bridge_of_guests_leads_nowhere(self, bridge):
        """By the name that its engine gives; the answers are those without the rule."""
        rules = nft(f'oifname "{bridge}" accept')
        found, without = every_answer(rules, infer(rules)), every_answer(nft(""), infer(nft("")))

        assert found == without
        assert infer(rules).inside == (bridge,)

    def test_what_comes_from_there_leaves(self):
        """The control: by the underlay."""
        forward = 'chain f {{\ntype filter hook forward priority 0; policy drop;\niifname "docker0" {} accept\n}}'
        opened, shut = (nft("", forward.format(each)) for each in ('oifname "eth0"', 'oifname "docker0"'))

        assert answers(opened, infer(opened))["forwarded4"] is Answer.LEAK
        assert answers(shut, infer(shut))["forwarded4"] is Answer.PROVED

    @pytest.mark.parametrize("bridge", ["br-lan", "br0", "br-*", "bridge0"])
    def test_any_other_bridge_may_have_the_cable(self, bridge):
        """The control: a router's is the network itself."""
        rules = nft(f'oifname "{bridge}" accept')

        assert answers(rules, infer(rules))["new-flow4"] is Answer.LEAK


class TestHowTcpBegins:
    """To conntrack a connection begins with SYN, or, where it has forgotten it, with an ACK that is no end: nothing else is new."""

    def test_what_is_no_syn_and_new_is_an_acknowledgement(self):
        """`! --syn -j ACCEPT` of the old guides: what goes on after the connection's entry is gone."""
        found = answers(save("-A OUTPUT -p tcp ! --syn -j ACCEPT")).result("new-flow4")

        assert found.answer is Answer.LEAK
        assert [each.packet["tcp flags"] & 0x17 for each in found.witnesses] == [0x10]

    @pytest.mark.parametrize("flags", ["== 0x0", "& fin == fin", "& (syn | ack) == syn | ack"])
    def test_what_begins_nothing_is_not_new(self, flags):
        """A packet without flags, an end, an answer: each is invalid where nothing came before."""
        found = answers(nft(f"tcp flags {flags} accept"))

        assert (found["new-flow4"], found["odd-state4"]) == (Answer.PROVED, Answer.LEAK)

    def test_a_syn_is_new(self):
        """The control."""
        assert answers(nft("tcp flags & (fin | syn | rst | ack) == syn accept"))["new-flow4"] is Answer.LEAK


class TestBesideTheUnknown:
    """A rule that is not understood hides no other."""

    UNKNOWN = "-A OUTPUT -m set --match-set servers dst -j ACCEPT"

    @pytest.mark.parametrize("first", [True, False])
    def test_what_leaves_whatever_it_answers_is_a_leak(self, first):
        """By the rule that lets it go in any case; what the other may let out is shown beside it, with what it depends on."""
        rules = ["-A OUTPUT -p udp -m udp --dport 1194 -j ACCEPT", self.UNKNOWN]
        found = answers(save(*(reversed(rules) if first else rules))).result("new-flow4")

        assert found.answer is Answer.LEAK
        assert [(each.certain, bool(each.depends), each.packet["dport"]) for each in found.witnesses] == [
            (True, False, 1194),
            (False, True, 443),
        ]
        assert "--dport 1194" in explain(found, found.witnesses[0]).rule

    def test_what_depends_on_it_is_possible(self):
        """The control: a name is looked up, if the set has its server."""
        rules = save(self.UNKNOWN, "-A OUTPUT -p udp -m udp --dport 1194 -j ACCEPT")

        assert (answers(rules)["dns4"], answers(save(self.UNKNOWN))["new-flow4"]) == (Answer.POSSIBLE, Answer.POSSIBLE)


class TestWhatDevicesAre:
    """A device's group, type or kind is the machine's, and no rule says which device has it."""

    @pytest.mark.parametrize("asked", ["oifgroup 7", "oiftype 65534", 'oifkind "bridge"', 'oifkind != "wireguard"'])
    def test_it_may_be_the_underlay_s_and_may_not(self, asked):
        """No packet that leaves by eth0 is said to have it."""
        assert answers(nft(f"meta {asked} accept"))["new-flow4"] is Answer.POSSIBLE
        assert answers(save("-A OUTPUT -m devgroup --dst-group 0x7 -j ACCEPT"))["new-flow4"] is Answer.POSSIBLE

    def test_a_device_with_a_name_is_what_it_is(self):
        """The control."""
        assert answers(nft('oifname "eth1" accept'))["new-flow4"] is Answer.LEAK

    @pytest.mark.parametrize("kinds", ['"wireguard"', '{ "wireguard", "tun" }'])
    def test_one_of_a_vpn_s_own_kind_is_a_tunnel(self, kinds):
        """Whatever it is called; whether the known tunnels are of it, the rules don't say. A bridge may be anything."""
        shut = f"oifname lo accept\nmeta oifkind {kinds} accept"
        found = answers(nft_text(shut))

        assert (found["new-flow4"], found["icmp6"], found["tunnel-out4"]) == (Answer.PROVED, Answer.PROVED, Answer.POSSIBLE)
        assert answers(nft_text(shut.replace('"wireguard"', '"bridge"')))["new-flow4"] is Answer.POSSIBLE


class TestSometimes:
    """What lets every other packet through lets packets through."""

    def test_what_goes_by_number_by_chance_or_by_the_clock_leaks(self):
        """Accepted now and then, or not refused now and then."""
        for rule in (
            "-m hashlimit --hashlimit-upto 5/sec --hashlimit-name a -j ACCEPT",
            "-m connlimit --connlimit-upto 5 -j ACCEPT",
            "-m time --timestart 08:00 --timestop 18:00 -j ACCEPT",
        ):
            assert answers(save(f"-A OUTPUT {rule}"))["new-flow4"] is Answer.LEAK
        halved = save("-A OUTPUT -m statistic --mode random --probability 0.5 -j DROP", "-A OUTPUT -p tcp -j ACCEPT")
        assert answers(halved)["new-flow4"] is Answer.LEAK

    def test_so_it_is_where_nft_says_it(self):
        """By the clock, by its number, by chance."""
        for rule in ('meta hour "08:00"-"17:00"', 'meta day { "Monday", "Friday" }', "numgen inc mod 2 == 0"):
            assert answers(nft(f"{rule} tcp dport 443 accept"))["new-flow4"] is Answer.LEAK, rule

    def test_a_day_that_may_have_passed_is_possible(self):
        """The control: `meta time` comes once."""
        assert answers(nft('meta time < "2024-01-01" accept'))["new-flow4"] is Answer.POSSIBLE

    def test_what_depends_on_packets_before_is_possible(self):
        """The control: nobody may ever have put an address into the list."""
        assert answers(save("-A OUTPUT -m recent --name knocked --rcheck -j ACCEPT"))["new-flow4"] is Answer.POSSIBLE

    def test_what_is_put_into_a_list_is_let_out(self):
        """`--set` asks for nothing; negated, no packet has it."""
        let_out = save("-A OUTPUT -m recent --set --name seen -j ACCEPT")
        refused = (save_open(f"-A OUTPUT -m recent {each}--set --name seen -j DROP") for each in ("", "! "))

        assert [answers(each)["new-flow4"] for each in (let_out, *refused)] == [Answer.LEAK, Answer.PROVED, Answer.LEAK]


def why_exempt(rules: Ruleset) -> str:
    result = answers(rules).result("exempt4")
    return explain(result, result.witnesses[0]).why


class TestAddresses:
    """What an address can be at all."""

    def test_ipv6_has_no_broadcast(self):
        """The kernel calls no address of it so; of IPv4 one of the link's is."""
        found = answers(nft("fib daddr type broadcast accept"))

        assert (found["lan4"], found["lan6"], found["dns6"]) == (Answer.LEAK, Answer.PROVED, Answer.PROVED)

    @pytest.mark.parametrize("chain", ["OUTPUT", "POSTROUTING"])
    def test_a_program_sends_from_an_address_of_its_machine(self, chain):
        """What refuses `--src-type LOCAL` refuses what it sends, but what is forwarded; of IPv6 a socket may say otherwise."""
        head = f"*mangle\n:{chain} ACCEPT [0:0]\n-A {chain} ! -o lo -m addrtype --src-type LOCAL -j DROP\nCOMMIT\n"
        four, six = (answers(read_save(head, "rules", each).ruleset) for each in (Family.IP, Family.IP6))

        assert (four["new-flow4"], four["forwarded4"], six["new-flow6"]) == (Answer.PROVED, Answer.LEAK, Answer.LEAK)

    def test_ipv6_has_anycast(self):
        """The control."""
        assert answers(nft("fib daddr type anycast accept"))["lan6"] is Answer.LEAK

    def test_this_machine_is_not_the_local_network(self):
        """Guides accept 127.0.0.0/8 by whichever device; a prefix of the network is another matter."""
        found = [answers(nft(f"ip daddr {each} accept"))["lan4"] for each in ("127.0.0.0/8", "192.168.1.0/24")]

        assert found == [Answer.PROVED, Answer.LEAK]

    def test_neighbour_discovery_exempts_nobody(self):
        """It is the link's, whoever sends it."""
        found = answers(nft("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"))

        assert (found["exempt6"], answers(nft("icmpv6 type echo-request accept"))["exempt6"]) == (Answer.PROVED, Answer.LEAK)


class TestIPsec:
    """What IPsec takes on its way out is encrypted: what leaves in the clear is the rest."""

    def test_what_it_takes_does_not_leave_in_the_clear(self):
        """A kill switch by policy, of either tool: with and without a server."""
        ike = "-A OUTPUT -d 203.0.113.7/32 -p udp -m multiport --dports 500,4500 -j ACCEPT"
        by_iptables = save("-A OUTPUT -m policy --dir out --pol ipsec -j ACCEPT", ike)
        refused = save_open("-A OUTPUT ! -o lo -m policy --dir out --pol none -j REJECT")
        for rules in (by_iptables, refused, nft("rt ipsec exists accept"), nft_open('oifname != "lo" rt ipsec missing drop')):
            found = answers(rules, infer(rules))

            assert {found[f"{each}4"] for each in ("new-flow", "established", "dns", "icmp")} == {Answer.PROVED}

    def test_what_it_does_not_take_leaves(self):
        """The control: the same with the other answer."""
        for rules in (save("-A OUTPUT -m policy --dir out --pol none -j ACCEPT"), nft("rt ipsec missing accept")):
            assert answers(rules)["new-flow4"] is Answer.LEAK

    @pytest.mark.parametrize("only", ["--proto esp", "--strict --reqid 7"])
    def test_of_how_it_is_taken_nothing_is_known(self, only):
        """So what is refused but for one policy is held, and what is refused of one policy may not be."""
        held = save(f"-A OUTPUT -m policy --dir out --pol ipsec {only} -j ACCEPT")

        assert answers(held)["new-flow4"] is Answer.PROVED

    def test_where_packets_are_translated_it_may_let_go_of_them(self):
        """It is asked anew once they have another source (nf_xfrm_me_harder)."""
        nat = "chain n {\ntype nat hook postrouting priority 100\noifname eth0 masquerade\n}"

        assert answers(nft("rt ipsec exists accept", nat))["new-flow4"] is Answer.POSSIBLE


class TestWhatAPacketIs:
    """What a program can send at all."""

    def test_names_are_looked_up_by_udp_and_tcp(self):
        """What refuses both before it opens the local network has refused DNS; another protocol with that port is no look-up."""
        rules = "udp dport { 53, 853 } drop\ntcp dport { 53, 853 } drop\nip daddr 192.168.1.0/24 accept"
        found = answers(nft(rules))

        assert (found["dns4"], found["lan4"]) == (Answer.PROVED, Answer.LEAK)
        assert answers(nft(rules.partition("\n")[2]))["dns4"] is Answer.LEAK

    def test_fragments_are_made_past_the_last_hook(self):
        """No program's packet is one where IP's chains see it; below them it is."""
        below = "table netdev n {\nchain e {{\ntype filter hook egress device eth0 priority 0; policy drop;\n{}\n}}\n}}\n"
        frames = read_text(
            below.replace("table netdev n {", "table netdev n {{").format("ip frag-off & 0x1fff != 0 accept"), "r"
        ).ruleset

        assert answers(nft("ip frag-off & 0x1fff != 0 accept"))["new-flow4"] is Answer.PROVED
        assert answers(frames)["new-flow4"] is Answer.LEAK

    @pytest.mark.parametrize("status", ["seen-reply", "assured"])
    def test_a_connection_without_a_reply_is_not_assured(self, status):
        """It is established by then."""
        found = answers(nft(f"ct status {status} tcp dport 443 accept"))

        assert (found["new-flow4"], found["established4"]) == (Answer.PROVED, Answer.LEAK)


class TestWhomTheRulesHold:
    """Rules that refuse one sender's packets say nothing of others."""

    def test_a_set_of_users_is_its_users(self):
        """`@users` is no user."""
        rules = read_text(
            "table inet t {\nset users { type uid; elements = { 1001, 1002 }\n}\nchain o {\ntype filter hook output priority 0;\n"
            'meta skuid @users oifname != { "lo", "wg0" } drop\n}\n}\n',
            "r",
        ).ruleset

        assert infer(rules).confined == ("1001", "1002")

    def test_no_mark_is_every_program_s(self):
        """`meta mark 0 drop` holds all who set none; that with a mark is one's own."""
        held = [infer(nft_open(f'oifname != {{ "lo", "wg0" }} meta mark {each} drop')).held for each in ("0x0", "0x1")]

        assert held == [(), ("with mark 0x1",)]


class TestSetsOfIpset:
    """What `ipset save` prints beside the rules."""

    SERVERS = "create servers hash:net,port family inet\nadd servers 203.0.113.7,udp:51820\ncreate lan hash:net family inet{}\n"
    RULES = ("-A OUTPUT -o wg0 -j ACCEPT", "-A OUTPUT -m set --match-set servers dst,dst -j ACCEPT")

    def audited(self, lan: str, *more: str, lasting: str = "") -> tuple[Answers, World]:
        """Ask of rules beside a dump, whose second set holds `lan`."""
        lines = ["*filter", ":INPUT ACCEPT [0:0]", ":FORWARD DROP [0:0]", ":OUTPUT DROP [0:0]", *self.RULES, *more, "COMMIT", ""]
        files = [("rules.v4", "\n".join(lines).encode()), ("sets", f"{self.SERVERS.format(lasting)}add lan {lan}\n".encode())]
        rules = together(read_rulesets(files)).ruleset
        return answers(rules, infer(rules)), infer(rules)

    def test_they_say_where_the_server_is(self):
        """By address, protocol and port; a network that is near is the local one."""
        found, world = self.audited("192.168.0.0/16", "-A OUTPUT -m set --match-set lan dst -j ACCEPT")

        assert ([str(each) for each in world.endpoints], world.lan) == (["203.0.113.7:51820"], (ip_network("192.168.0.0/16"),))
        assert (found["new-flow4"], found["endpoint-port4"], found["lan4"], found["dns4"]) == (
            Answer.PROVED,
            Answer.PROVED,
            Answer.LEAK,
            Answer.LEAK,
        )

    def test_what_they_hold_leaks(self):
        """The control; also what they hold for a while, and what is not refused for not being in one."""
        accepted = "-A OUTPUT -m set --match-set lan dst -j ACCEPT"
        found = (
            self.audited("128.0.0.0/2", accepted)[0],
            self.audited("128.0.0.0/2", accepted, lasting=" timeout 600")[0],
            self.audited("128.0.0.0/2", "-A OUTPUT -m set ! --match-set lan dst -j DROP", "-A OUTPUT -j ACCEPT")[0],
        )

        assert [each["new-flow4"] for each in found] == [Answer.LEAK] * 3


class TestTranslated:
    """A packet is translated as its connection was when it began: only by a rule for such connections."""

    ONLY_TRANSLATED = """table inet t {{
    chain n {{
    type nat hook output priority -100
    {} dnat ip to 198.51.100.53
    }}
    chain early {{
    type filter hook output priority -150
    ip daddr 198.51.100.53 drop
    }}
    chain late {{
    type filter hook postrouting priority 0; policy drop;
    ct state {} ip daddr 198.51.100.53 accept
    }}
    }}
    """

    @pytest.mark.parametrize(
        ("asked", "icmp"),
        [
            ("udp dport 53", Answer.PROVED),
            ("meta l4proto { tcp, udp } th dport 53", Answer.PROVED),
            ("meta mark 0", Answer.LEAK),
            ("meta l4proto icmp", Answer.LEAK),
        ],
    )
    def test_a_ping_is_not_translated_by_a_rule_for_dns(self, asked, icmp):
        """What established ICMP begins as is an echo request."""
        found = answers(read_text(self.ONLY_TRANSLATED.format(asked, "established"), "r").ruleset)

        assert found["icmp4"] is icmp

    def test_an_error_about_such_a_connection_is(self):
        """It goes where the connection goes (nf_nat_icmp_reply_translation)."""
        found = answers(read_text(self.ONLY_TRANSLATED.format("udp dport 53", "related"), "r").ruleset)

        assert found["icmp4"] is Answer.LEAK


@pytest.mark.parametrize(("state", "odd"), [("", Answer.POSSIBLE), ("-m conntrack --ctstate ESTABLISHED", Answer.PROVED)])
def test_what_a_helper_expected_is_related_and_never_new(state, odd):
    """`-m helper` asks for the connection that another one announced (xt_helper.c)."""
    found = answers(save(f"-A OUTPUT {state} -m helper --helper ftp -j ACCEPT"))

    assert (found["new-flow4"], found["established4"], found["odd-state4"]) == (Answer.PROVED, Answer.POSSIBLE, odd)


def test_who_names_a_device_is_routed_anew_without_it():
    """A mark that confines is asked for beside the device that the program named (IP_PKTINFO), and not the one that it leaves by.

    By packets of Linux 6.18: a datagram of uid 1000 left by eth0 while the mark's routes were gone. At postrouting none does.
    """
    confined = (
        "*mangle\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A OUTPUT ! -o lo -j MARK --set-mark 0x1\n{}COMMIT\n"
        "*filter\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n{}COMMIT\n"
    )
    at_output, last = "-A OUTPUT ! -o wg0 -m mark --mark 0x1 -j DROP\n", "-A POSTROUTING ! -o wg0 -m mark --mark 0x1 -j DROP\n"
    early, late = (read_save(confined.format(*each), "r", Family.IP).ruleset for each in (("", at_output), (last, "")))

    assert (answers(early)["new-flow4"], answers(late)["new-flow4"]) == (Answer.LEAK, Answer.PROVED)


class TestReasons:
    """The sentence below a packet is about the rule above it."""

    def test_a_rule_that_asks_for_no_sender_exempts_nobody(self):
        """`tcp dport 853 accept` is for everybody, whoever the witness is."""
        assert why_exempt(nft("tcp dport 853 accept")) == "the rule that lets it out asks for no user, group or mark"

    def test_a_rule_that_asks_for_one_does(self):
        """The control."""
        for rule in ("meta skuid 1500 accept", "meta mark & 0xff == 0x6c accept", "meta skuid . tcp dport { 1500 . 443 } accept"):
            assert why_exempt(nft(rule)) == "who has this mark or runs as this user is outside of the tunnel"


def why_of(rule: str, question: str, family: int) -> str:
    result = answers(nft(rule), SERVED).result(f"{question}{family}")
    return explain(result, result.witnesses[0]).why


class TestMeantForLess:
    """A rule that lets out more than its author meant says what is missing in it."""

    @pytest.mark.parametrize("question", ["new-flow", "established", "odd-state", "endpoint-port"])
    def test_of_dhcp_it_is_where_it_goes(self, question):
        """`udp sport 68 udp dport 67 accept` is no way for any program: only for one that may have that port, to everywhere."""
        why = why_of("udp sport 68 udp dport 67 accept", question, 4)

        assert why.endswith("name 255.255.255.255 and the router")
        assert why_of("udp sport 546 udp dport 547 accept", "new-flow", 6).endswith("name ff02::1:2")

    def test_of_a_protocol_it_is_the_family(self):
        """`meta l4proto icmpv6` lets its number out over IPv4 too."""
        assert "IPv4 may have it too" in why_of("meta l4proto icmpv6 accept", "icmp", 4)

    def test_of_anything_else_the_reason_is_its_own(self):
        """The control: a rule for every port, and ping where it belongs."""
        assert why_of("meta l4proto udp accept", "new-flow", 4) == "any program may open a connection past the tunnel"
        assert why_of("meta l4proto icmpv6 accept", "icmp", 6).startswith("a ping shows")


class TestConnections:
    """`ct original ip daddr SERVER accept`: where a connection leads is where its packets go."""

    def test_a_packet_of_a_connection_to_the_server_goes_to_the_server(self):
        """In the one direction it is its target, in the other its source; without a rule that translates."""
        found = answers(nft("ct original ip daddr 203.0.113.7 ct original proto-dst 51820 ip protocol udp accept"))
        known = answers(nft("ct original ip daddr 203.0.113.7 ct original proto-dst 51820 ip protocol udp accept"), SERVED)

        assert (found["new-flow4"], found["icmp4"]) == (Answer.LEAK, Answer.PROVED)
        assert {known[each] for each in ("new-flow4", "established4", "odd-state4", "endpoint-port4")} == {Answer.PROVED}

    def test_the_rules_say_where_the_server_is(self):
        """By the connection as by the packet."""
        rules = nft("ct original ip daddr 203.0.113.7 ct original proto-dst 51820 meta l4proto 17 accept")

        assert [str(each.address) for each in infer(rules).endpoints] == ["203.0.113.7"]

    def test_where_rules_translate_it_may_go_elsewhere(self):
        """The control: a connection to the server is sent on to another host. An error about one is no part of it."""
        nat = "chain n {\ntype nat hook output priority -100\nip daddr 203.0.113.7 dnat ip to 198.51.100.80\n}"
        straight, turned = (answers(nft("ct original ip daddr 203.0.113.7 accept", each), SERVED) for each in ("", nat))

        assert (straight["established4"], turned["established4"]) == (Answer.PROVED, Answer.LEAK)
        assert straight["icmp4"] is Answer.LEAK

    def test_what_is_written_into_a_packet_before_its_connection_is_looked_up_is_what_is_looked_up(self):
        """It begins as another packet than the connection's: nothing is said of one by the other then."""
        early = "chain e {\ntype filter hook output priority -300\nip daddr 192.0.2.1 ip daddr set 203.0.113.7\n}"
        late = "chain l {\ntype filter hook output priority -150\nip daddr 203.0.113.7 ip daddr set 198.51.100.80\n}"
        rule = "ct original ip daddr 203.0.113.7 accept"

        assert answers(nft(rule, early + late), SERVED)["established4"] is Answer.LEAK

    def test_a_connection_of_ipv6_has_no_address_of_ipv4(self):
        """The kernel finds nothing to compare there."""
        found = answers(nft("ct original ip daddr 203.0.113.7 accept"))

        assert {found[f"{each}6"] for each in ("new-flow", "established", "icmp", "odd-state")} == {Answer.PROVED}


@pytest.mark.parametrize("said", ["5b:1", "0x5b0001", "5963777"])
def test_a_class_of_traffic_is_a_number_however_it_is_said(said):
    """One chain stamps what it lets out, and one below asks for the stamp: nothing that any other chain let out passes there."""
    below = "chain d {\ntype filter hook postrouting priority 300; policy drop;\nmeta priority 5b:1 accept\n}"
    rules = f"ip daddr 192.168.1.0/24 meta priority set {said} accept\nip daddr 198.51.100.0/24 meta priority set 5b:2 accept"
    found = audit(nft(rules, below), WORLD)

    assert {f"{each.question.name}{each.family}": each.answer for each in found}["lan4"] is Answer.LEAK
    assert [each.answer for each in found if each.question.name == "new-flow"] == [Answer.PROVED, Answer.PROVED]
    assert not any(each.approximations for each in found)


def test_chains_in_a_circle_that_no_packet_comes_to_are_loaded():
    """The kernel looks for circles from its hooks on (nft_table_validate); one that a hook leads to it refuses."""
    circle = "chain a {\njump b\n}\nchain b {\ngoto a\n}"
    alone = read_text(f"table inet t {{\n{circle}\n}}\n", "r")
    base = "chain o {\ntype filter hook output priority 0; policy drop;\njump b\n}"
    reached = read_text(f"table inet t {{\n{circle}\n{base}\n}}\n", "r")

    assert alone.findings == ()
    assert [each.code for each in reached.findings] == [Code.RULES_LOOP]


def test_what_one_listing_does_not_say_and_the_other_does_is_not_approximated():
    """`nft list ruleset` prints `xt match "multiport"`, and iptables-save all of it."""
    head = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n"
    saved = read_save(head + "-A OUTPUT -p tcp -m multiport --dports 80,443 -j ACCEPT\nCOMMIT\n", "v4", Family.IP)
    bases = "".join(
        f"chain {hook.upper()} {{\ntype filter hook {hook} priority filter; policy {policy};\n{rule}}}\n"
        for hook, policy, rule in (
            ("input", "accept", ""),
            ("forward", "accept", ""),
            ("output", "drop", 'meta l4proto tcp xt match "multiport" counter packets 0 bytes 0 accept\n'),
        )
    )
    listed = read_text(f"table ip filter {{\n{bases}}}\n", "nft list ruleset")

    assert len(listed.approximations) == 1
    assert together([listed, saved]).approximations == ()
    assert together([listed]).approximations == listed.approximations


def test_a_replay_needs_no_word_that_an_older_nft_does_not_know():
    """A table that is destroyed before it is made is not there in a lab; one that was made before is to go."""
    text = "destroy table inet ks\ntable inet ks {\n}\ndestroy table inet ks\n"
    (source,) = of_files([("rules.nft", text.encode())]).sources

    assert source.text == "\ntable inet ks {\n}\ndestroy table inet ks\n"
