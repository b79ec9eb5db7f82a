"""Damage to files, drawn by Hypothesis."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

WORDS = (0, 1, 2, 3, 7, 255, 256, 65535, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
"""Numbers at the edges of what a header's fields hold."""


@dataclass(frozen=True)
class Edit:
    """One change of a file.

    Attributes:
        kind: `bits`, `word`, `zeros`, `noise`, `cut` or `drop`.
        place: Where, as a share of the file's length; the ends are hit more often, for there are
            the headers.
        value: What is written; the length of what is dropped.
    """

    kind: str
    place: float
    value: int

    def apply(self, data: bytearray) -> bytearray:
        """The changed file."""
        if not data:
            return data
        at = min(int(self.place * len(data)), len(data) - 1)
        match self.kind:
            case "bits":
                data[at] ^= self.value % 255 + 1
            case "word":
                data[at : at + 4] = (self.value % 2**32).to_bytes(4, "little")
            case "zeros":
                data[at : at + self.value % 4096] = bytes(min(self.value % 4096, len(data) - at))
            case "noise":
                length = min(self.value % 512, len(data) - at)
                data[at : at + length] = bytes((self.value * k * k) % 251 for k in range(length))
            case "cut":
                del data[at:]
            case _:
                del data[at : at + self.value % 64 + 1]
        return data


_anywhere = st.floats(0, 1, exclude_max=True)
_ends = st.floats(0, 0.03) | st.floats(0.97, 1, exclude_max=True)
edits = st.lists(
    st.builds(
        Edit,
        kind=st.sampled_from(["bits", "bits", "word", "word", "zeros", "noise", "cut", "drop"]),
        place=_anywhere | _ends,
        value=st.sampled_from(WORDS) | st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=6,
)
"""A few changes of one file."""
