"""How far the fast reader's pixels are from those of OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slideloom.wsi import Box, open_slide

MAX_DIFFERENCE = 1
"""Grey values by which the fast reader may differ from OpenSlide."""


def difference(path: Path, box: Box, *, level: int = 0) -> int:
    with open_slide(path, reader="tiff") as fast, open_slide(path, reader="openslide") as slow:
        pixels = fast.read(box, level=level).astype(int), slow.read(box, level=level).astype(int)
    assert np.ptp(pixels[0]) > 50
    return int(np.abs(pixels[0] - pixels[1]).max())
