"""Gzip files made of members."""

import gzip
import zlib
from io import BytesIO

import pytest

from slideloom.workflows.export.compression import gzip_members

PARTS = [b"one " * 5000, b"", b"two", *(bytes([number]) * 999 for number in range(20))]


def test_members_in_a_row_are_one_file() -> None:
    file = BytesIO()
    with gzip_members(file) as write:
        for part in PARTS:
            write(part)
    assert gzip.decompress(file.getvalue()) == b"".join(PARTS)
    assert len(file.getvalue()) < 5000


def test_each_part_is_a_member_without_name_and_time() -> None:
    file = BytesIO()
    with gzip_members(file) as write:
        for part in PARTS:
            write(part)
    rest = file.getvalue()
    for part in PARTS:
        assert rest[4:8] == bytes(4)
        assert rest[3] == 0
        member = zlib.decompressobj(wbits=31)
        assert member.decompress(rest) == part
        rest = member.unused_data
    assert rest == b""


def test_an_error_in_the_block_is_not_hidden() -> None:
    def write_and_fail() -> None:
        with gzip_members(BytesIO()) as write:
            write(b"part")
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
