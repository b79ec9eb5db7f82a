"""A slide as large as scanners write them that takes next to no disk: glass is never stored."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from slideloom.testing import make_scene, render_scene
from slideloom.wsi.geometry import Size
from slideloom.wsi.writing.ome_store import array_keys, set_ome_metadata

MPP = 0.25
CELL_PX = 2048
"""Side of the tissue picture: an area of tissue is a number of cells, and each holds it once."""
DOWNSAMPLES = (1, 2, 4, 16, 64)
_CHUNK_PX = 1024
_WHITE = 255


def tissue_picture() -> NDArray[np.uint8]:
    """The picture `(y, x, 3)` that each cell of tissue shows: stained tissue with nuclei."""
    size = Size(width=CELL_PX, height=CELL_PX)
    return render_scene(make_scene(size=size, mpp=MPP, seed=5))


def block_of_cells(row: int, col: int, *, side: int) -> list[tuple[int, int]]:
    """`(row, col)` of the `side` x `side` cells whose first is the given one."""
    return [(row + y, col + x) for y in range(side) for x in range(side)]


def write_sparse_slide(
    folder: Path, *, side_px: int = 100_000, cells: Iterable[tuple[int, int]]
) -> Path:
    """Write a square OME-Zarr with a pyramid; all but `cells` is glass, by the fill value.

    Cells lie on a grid of `CELL_PX` and are whole: those that reach over the slide's edge cannot be
    asked for. The chunks of one cell are stored once, all others are hard links to them, so disk
    hangs on the picture alone.

    Args:
        folder: A new folder.
        side_px: Of level 0.
        cells: `(row, col)` of each cell of tissue.
    """
    wanted = sorted(set(cells))
    group = zarr.create_group(folder, zarr_format=3)
    picture = tissue_picture() if wanted else None
    for level, downsample in enumerate(DOWNSAMPLES):
        side = -(-side_px // downsample)
        chunk = min(_CHUNK_PX, CELL_PX // downsample)
        keys = array_keys(group, axes="cyx", dtype=np.dtype(np.uint8), zstd_level=2)
        array = group.create_array(
            str(level),
            shape=(3, side, side),
            chunks=(3, chunk, chunk),
            **(keys | {"fill_value": _WHITE}),
        )
        if picture is not None:
            _fill(array, folder / str(level), cells=wanted, picture=_reduced(picture, downsample))
    set_ome_metadata(group, {"multiscales": [_multiscale()]})
    return folder


def _fill(
    array: zarr.Array,  # type: ignore[type-arg]
    level: Path,
    *,
    cells: list[tuple[int, int]],
    picture: NDArray[np.uint8],
) -> None:
    """Write the first cell, and link the chunks of the others to its own."""
    side, chunk = len(picture), array.chunks[1]
    count = side // chunk
    row, col = cells[0]
    at = (slice(row * side, (row + 1) * side), slice(col * side, (col + 1) * side))
    array[:, at[0], at[1]] = np.moveaxis(picture, 2, 0)
    for y in range(count):
        for x in range(count):
            stored = level / "c" / "0" / str(row * count + y) / str(col * count + x)
            for other_row, other_col in cells[1:]:
                line = stored.parents[1] / str(other_row * count + y)
                line.mkdir(exist_ok=True)
                os.link(stored, line / str(other_col * count + x))


def _reduced(picture: NDArray[np.uint8], downsample: int) -> NDArray[np.uint8]:
    side = len(picture) // downsample
    blocks = picture.reshape(side, downsample, side, downsample, 3)
    reduced: NDArray[np.uint8] = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return reduced


def _multiscale() -> dict[str, object]:
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, MPP * downsample, MPP * downsample]}
            ],
        }
        for level, downsample in enumerate(DOWNSAMPLES)
    ]
    axes = [{"name": "c", "type": "channel"}, *space]
    return {"name": "sparse", "axes": axes, "datasets": datasets, "type": "mean"}
