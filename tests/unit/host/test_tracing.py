"""A page of the kernel's trace buffer, as include/linux/ring_buffer.h lays it out, is read record by record."""

from __future__ import annotations

import struct
import sys

import pytest

from failshut.host.senders.tracing import _records

BEGAN = 5_000_000_000
HEAD = 16


def entry(kind: int, delta: int, *words: int) -> bytes:
    head = kind | delta << 5 if sys.byteorder == "little" else kind << 27 | delta
    return struct.pack(f"={1 + len(words)}I", head, *words)


def page(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("=QQ", BEGAN, len(body)) + body


def test_short_and_long_records_have_their_time_and_their_bytes():
    read = list(_records(page(entry(2, 7, 11, 12), entry(0, 3, 12, 21, 22), entry(1, 0, 31)), HEAD))

    assert [struct.unpack(f"={len(each) // 4}I", each) for _, each in read] == [(11, 12), (21, 22), (31,)]
    assert [round(at * 1e9) - BEGAN for at, _ in read] == [7, 10, 10]


def test_times_that_need_more_room_and_records_that_were_taken_back_are_no_records():
    # A time of more than 27 bits, an absolute one, a record that was taken back, and what is left of the page.
    entries = (entry(30, 5, 2), entry(1, 1, 41), entry(31, 9, 3), entry(1, 1, 42), entry(29, 4, 8, 0), entry(1, 1, 43))
    read = list(_records(page(*entries, entry(29, 0, 99), entry(1, 1, 44)), HEAD))
    absolute = (BEGAN >> 59 << 59) + 9 + (3 << 27)

    assert [struct.unpack("=I", each)[0] for _, each in read] == [41, 42, 43]
    assert [round(at * 1e9) for at, _ in read] == [BEGAN + 5 + (2 << 27) + 1, absolute + 1, absolute + 6]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_page_that_is_cut_anywhere_ends_there(cut):
    whole = page(entry(2, 7, 11, 12), entry(0, 3, 12, 21, 22), entry(30, 1, 1), entry(1, 0, 31))

    assert len(list(_records(whole[:-cut], HEAD))) <= 3
    assert list(_records(b"", HEAD)) == []
