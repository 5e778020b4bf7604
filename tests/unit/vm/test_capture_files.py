"""Reading the capture files that qemu writes for the tests on whole machines: what they can't see they must not pass."""

from __future__ import annotations

import struct

import pytest

from vm.wire import read

HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, 1)
FRAME = bytes(range(60))


def frame(content: bytes = FRAME, length: int | None = None) -> bytes:
    return struct.pack("<IIII", 7, 500_000, len(content), length or len(content)) + content


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cable.pcap"


def test_frames_are_read_whole_with_their_moment_and_their_place(file):
    file.write_bytes(HEAD + frame() + frame(b"x"))

    first, second = read(file)

    assert (first.content, first.at, first.end) == (FRAME, 7.5, len(HEAD) + 16 + 60)
    assert (second.content, second.end) == (b"x", file.stat().st_size)


def test_a_frame_that_is_being_written_waits_for_the_next_reading(file):
    file.write_bytes(HEAD + frame() + frame()[:-1])

    assert len(read(file)) == 1


def test_a_frame_of_which_a_part_was_thrown_away_is_an_error(file):
    file.write_bytes(HEAD + frame(length=1500))

    with pytest.raises(ValueError, match="60 bytes of a frame of 1500"):
        read(file)


def test_another_kind_of_file_is_an_error(file):
    file.write_bytes(b"\0" * 64)

    with pytest.raises(ValueError, match="no capture of Ethernet frames"):
        read(file)


def test_a_machine_that_was_never_on_has_sent_nothing(file):
    assert read(file) == []
