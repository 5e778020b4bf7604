"""Which address was asked for by which name: the answers of resolvers as they pass by, to this machine's own stub too."""

from __future__ import annotations

from collections import OrderedDict

import dns.exception
import dns.message
import dns.rdatatype

from failshut.model.packet import UDP, Packet

_DNS = 53
_MOST = 8192
_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)


class Names:
    """The last name that each address was an answer to."""

    def __init__(self) -> None:
        """Begin with nothing: what was asked before the watch began has no name."""
        self._by_address: OrderedDict[str, str] = OrderedDict()

    def learn(self, packet: Packet) -> None:
        """Take in one answer. What is no answer, or a damaged one, teaches nothing."""
        if packet.protocol != UDP or packet.source_port != _DNS:
            return
        try:
            answer = dns.message.from_wire(packet.payload, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError):
            return
        if not answer.question:
            return
        # What the program asked for, not where its aliases led.
        asked = answer.question[0].name.to_text(omit_final_dot=True)
        for record in (record for records in answer.answer if records.rdtype in _ADDRESSES for record in records):
            self._by_address.pop(record.address, None)
            self._by_address[record.address] = asked
            if len(self._by_address) > _MOST:
                self._by_address.popitem(last=False)

    def of(self, address: str) -> str:
        """Return the name that led to an address, "" when none is known."""
        return self._by_address.get(address, "")
