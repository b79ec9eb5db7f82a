"""Damage to files, drawn by Hypothesis: at random places, and where a format keeps its numbers.

A kind of damage that finds no place of its own in a file overwrites four bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

WORDS = (0, 1, 2, 3, 7, 255, 256, 65535, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
"""Numbers at the edges of what a header's fields hold."""
TEXTS = (b"", b"-1", b"0", b"1", b"1e308", b"NaN", b"null", b"[]", b"{}", b'"x"', b"99999")
"""What is put in place of a number in a text."""

_NUMBERS = re.compile(rb"-?\d+(?:\.\d+)?")
_WORDS_OF_TEXT = re.compile(rb"[A-Za-z_]{2,}")
_DICOM_ELEMENTS = re.compile(
    rb"(?:[\x02\x08\x10\x18\x20\x28\x40\x48]\x00|\x00\x52|\xe0\x7f)..[A-Z]{2}", re.DOTALL
)
_MOST_DIRECTORIES = 20
_FIELDS = {False: (0, 2, 4, 8), True: (0, 2, 4, 12)}
"""Where an entry of a TIFF directory keeps tag, type, count and value; of a BigTIFF's."""


@dataclass(frozen=True)
class Edit:
    """One change of a file.

    Attributes:
        kind: A name in `EDITS`.
        place: Where, as a share of the file's length, or of the places that the kind looks for;
            the ends are hit more often, for there are the headers.
        value: What is written; the length of what is dropped.
    """

    kind: str
    place: float
    value: int

    def apply(self, data: bytearray) -> bytearray:
        """The changed file."""
        if data:
            EDITS[self.kind](data, self.place, self.value)
        return data


def _at(data: bytearray, place: float) -> int:
    return min(int(place * len(data)), len(data) - 1)


def _pick(found: list[re.Match[bytes]], place: float) -> slice:
    chosen = found[int(place * len(found))]
    return slice(*chosen.span())


def _bits(data: bytearray, place: float, value: int) -> None:
    data[_at(data, place)] ^= value % 255 + 1


def _word(data: bytearray, place: float, value: int) -> None:
    at = _at(data, place)
    data[at : at + 4] = (value % 2**32).to_bytes(4, "little")


def _nudge(data: bytearray, place: float, value: int) -> None:
    """A 32-bit number becomes another one that is near."""
    at = max(0, _at(data, place) - 4)
    if len(data) >= at + 4:
        old = int.from_bytes(data[at : at + 4], "little")
        data[at : at + 4] = ((old + value % 17 - 8) % 2**32).to_bytes(4, "little")


def _zeros(data: bytearray, place: float, value: int) -> None:
    at = _at(data, place)
    length = min(value % 4096, len(data) - at)
    data[at : at + length] = bytes(length)


def _noise(data: bytearray, place: float, value: int) -> None:
    at = _at(data, place)
    length = min(value % 512, len(data) - at)
    data[at : at + length] = bytes((value * k * k) % 251 for k in range(length))


def _cut(data: bytearray, place: float, value: int) -> None:
    del data[_at(data, place) :]


def _drop(data: bytearray, place: float, value: int) -> None:
    at = _at(data, place)
    del data[at : at + value % 64 + 1]


def _repeat(data: bytearray, place: float, value: int) -> None:
    at = _at(data, place)
    data[at:at] = data[at : at + value % 512 + 1]


def _number(data: bytearray, place: float, value: int) -> None:
    """A number that is written in digits becomes another one, or none."""
    found = list(_NUMBERS.finditer(data))
    if found:
        texts = (*TEXTS, str(value).encode(), str(value % 1000).encode())
        data[_pick(found, place)] = texts[value % len(texts)]
    else:
        _word(data, place, value)


def _name(data: bytearray, place: float, value: int) -> None:
    """One word of a text takes the place of another."""
    found = list(_WORDS_OF_TEXT.finditer(data))
    if found:
        data[_pick(found, place)] = data[_pick(found, value % 997 / 997)]
    else:
        _word(data, place, value)


def _tiff_field(data: bytearray, place: float, value: int) -> None:
    """A field of an entry of a TIFF's directories."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = bytes(data[2:4]) in (b"+\0", b"\0+")
    entries = _tiff_entries(data, order, is_big=is_big)
    if entries:
        field = value % 4
        at = entries[int(place * len(entries))] + _FIELDS[is_big][field]
        layout = order + ("H" if field < 2 else "I")
        number = WORDS[value // 4 % len(WORDS)] if value % 3 else value // 4
        limit = 2**16 if field == 0 else 20 if field == 1 else 2**32
        struct.pack_into(layout, data, at, number % limit)
    else:
        _word(data, place, value)


def _tiff_entries(data: bytearray, order: str, *, is_big: bool) -> list[int]:
    """The bytes where the entries of the directories start, up to the first damage."""
    if bytes(data[:2]) not in (b"II", b"MM"):
        return []
    head, count, place = (8, "Q", "Q") if is_big else (4, "H", "I")
    size = 20 if is_big else 12
    entries: list[int] = []
    try:
        (start,) = struct.unpack_from(order + place, data, head)
        for _ in range(_MOST_DIRECTORIES):
            (number,) = struct.unpack_from(order + count, data, start)
            start += struct.calcsize(order + count)
            end = start + number * size
            (following,) = struct.unpack_from(order + place, data, end)
            entries += range(start, end, size)
            if not following:
                break
            start = following
    except (struct.error, OverflowError):
        pass
    return entries


def _dicom_field(data: bytearray, place: float, value: int) -> None:
    """The length or the value of what looks like an element of DICOM."""
    found = list(_DICOM_ELEMENTS.finditer(data)) if data[128:132] == b"DICM" else []
    if found:
        at = _pick(found, place).stop + 2 * (value % 3)
        length = 2 if value % 2 else 4
        number = WORDS[value // 6 % len(WORDS)]
        data[at : at + length] = (number % 256**length).to_bytes(length, "little")
    else:
        _word(data, place, value)


EDITS: dict[str, Callable[[bytearray, float, int], None]] = {
    "bits": _bits,
    "word": _word,
    "nudge": _nudge,
    "zeros": _zeros,
    "noise": _noise,
    "cut": _cut,
    "drop": _drop,
    "repeat": _repeat,
    "number": _number,
    "name": _name,
    "tiff field": _tiff_field,
    "dicom field": _dicom_field,
}
"""The kinds of damage: each changes the file's bytes in place."""

_anywhere = st.floats(0, 1, exclude_max=True)
_ends = st.floats(0, 0.03) | st.floats(0.97, 1, exclude_max=True)
edits = st.lists(
    st.builds(
        Edit,
        kind=st.sampled_from(sorted(EDITS)),
        place=_anywhere | _ends,
        value=st.sampled_from(WORDS) | st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=4,
)
"""A few changes of one file."""
