"""The grid of stored tiles, and reads that decode each of its tiles once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from slideloom.wsi.geometry import Box, Level
from slideloom.wsi.readers.reader import PixelSource, blank_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTile:
    """One tile of a level's grid: where it lies, cut to the level."""

    row: int
    col: int
    box: Box


def tiles_of(level: Level, box: Box) -> Iterator[StoredTile]:
    """The stored tiles that hold pixels of `box`, row by row; `box` lies inside the level."""
    tile = level.tile
    if box.is_empty:
        return
    for row in range(box.y0 // tile.height, -(-box.y1 // tile.height)):
        for col in range(box.x0 // tile.width, -(-box.x1 // tile.width)):
            yield StoredTile(
                row=row,
                col=col,
                box=Box(
                    x0=col * tile.width,
                    y0=row * tile.height,
                    x1=min((col + 1) * tile.width, level.size.width),
                    y1=min((row + 1) * tile.height, level.size.height),
                ),
            )


def read_boxes(source: PixelSource, boxes: Sequence[Box], *, level: int) -> list[NDArray[Any]]:
    """`(y, x, c)` pixels of many boxes, in their order; each stored tile is decoded once.

    The boxes may overlap and may reach outside the level, where pixels are background.
    """
    found = source.levels[level]
    bounds = Box.of_size(found.size)
    outputs = [blank_pixels(source, box) for box in boxes]
    users: dict[tuple[int, int], list[int]] = {}
    places: dict[tuple[int, int], Box] = {}
    for index, box in enumerate(boxes):
        for tile in tiles_of(found, box.intersect(bounds)):
            users.setdefault((tile.row, tile.col), []).append(index)
            places[tile.row, tile.col] = tile.box
    for key, indices in sorted(users.items()):
        place = places[key]
        stored = source.read(place, level)
        for index in indices:
            part = place.intersect(boxes[index])
            outputs[index][part.slices_in(boxes[index])] = stored[part.slices_in(place)]
    return outputs
