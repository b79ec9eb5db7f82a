"""Arrays of a region made small for its file: less to write costs less time than packing takes."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray


def pack(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The array's values, compressed without loss; its shape and dtype are left to `unpack`."""
    # Any buffer will do, but its types say bytes.
    values: Any = np.ascontiguousarray(array)
    packed = imagecodecs.blosc_encode(
        values,
        level=1,
        compressor="lz4",
        typesize=array.itemsize,
        shuffle="shuffle",
        numthreads=1,
    )
    return np.frombuffer(packed, np.uint8)


def unpack(packed: NDArray[Any], into: NDArray[Any]) -> None:
    """The opposite of `pack`, into a C-contiguous array of the packed one's shape and dtype."""
    data: Any = packed
    room: Any = into.reshape(-1).view(np.uint8)
    imagecodecs.blosc_decode(data, numthreads=1, out=room)
