"""Run-length masks of COCO: T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014.

A mask is read column by column; its counts are the lengths of runs of 0 and 1 in turn, beginning
with 0. The text form keeps from the third count on the difference to the count before the last,
and writes each number from its lowest five bits up: a character is 48 plus five bits plus 32 where
more follow, and the last one's highest bit is the sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.workflows.annotations.faults import BadObjectError

_FIRST, _MORE, _SIGN, _BITS = 48, 32, 16, 5
_PLAIN_COUNTS = 3


def decode_mask(segmentation: dict[str, Any]) -> NDArray[np.bool_]:
    """The mask `(y, x)` of an object with `size` (height, width) and `counts`.

    Raises:
        BadObjectError: The counts do not fill the size, or are no counts.
    """
    height, width = (int(value) for value in segmentation["size"])
    counts = segmentation["counts"]
    if isinstance(counts, str):
        counts = decode_counts(counts)
    lengths = np.asarray(counts, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != height * width:
        msg = f"a run-length mask whose counts do not fill {width} x {height} px: left out"
        raise BadObjectError(msg)
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def decode_counts(text: str) -> Sequence[int]:
    """The counts that a text stands for.

    Raises:
        BadObjectError: A character that no such text holds, or the text ends within a number.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - _FIRST
        if not 0 <= bits < 2 * _MORE:
            msg = f"a run-length mask with the character {character!r}: left out"
            raise BadObjectError(msg)
        value |= (bits & (_MORE - 1)) << shift
        shift += _BITS
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) >= _PLAIN_COUNTS else 0))
        value, shift = 0, 0
    if shift:
        msg = "a run-length mask that breaks off: left out"
        raise BadObjectError(msg)
    return counts
