"""The global tile grid and its regions: pure geometry that never reads a pixel.

Every number is in *model pixels*: pixels at the grid's mpp, counted from the slide's origin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from slideloom.errors import RegionError, SettingsError
from slideloom.wsi.geometry import Box, Size


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class GridIndex:
    """Place in a grid, counted from the top left."""

    row: int
    col: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """What one forward pass sees.

    Attributes:
        index: Place in the grid.
        core: The part that this tile alone owns, cut at the slide's edge.
        window: The core's full square and the halo around it. It always measures
            `tile_px` on each side and reaches outside the slide at the slide's edge.
    """

    index: GridIndex
    core: Box
    window: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """Tiles whose cores partition the slide exactly, anchored at the slide's origin.

    Attributes:
        extent: Size of the slide in model pixels.
        core_px: Side of a core.
        halo_px: Context around a core on each side.
        mpp: Micrometres per model pixel.

    Raises:
        SettingsError: `core_px` is below 1, `halo_px` below 0, or the extent is empty.
    """

    extent: Size
    core_px: int
    halo_px: int
    mpp: float

    def __post_init__(self) -> None:
        if self.core_px < 1 or self.halo_px < 0 or not self.mpp > 0:
            msg = (
                f"a grid needs core_px >= 1, halo_px >= 0 and mpp > 0, got core_px {self.core_px}, "
                f"halo_px {self.halo_px} and mpp {self.mpp}: choose a smaller halo or a larger tile"
            )
            raise SettingsError(msg)
        if self.extent.width < 1 or self.extent.height < 1:
            msg = f"a grid needs a slide of at least one pixel, got {self.extent}"
            raise SettingsError(msg)

    @property
    def tile_px(self) -> int:
        """Side of a tile's window."""
        return self.core_px + 2 * self.halo_px

    @property
    def rows(self) -> int:
        """Number of tile rows."""
        return ceil(self.extent.height / self.core_px)

    @property
    def cols(self) -> int:
        """Number of tile columns."""
        return ceil(self.extent.width / self.core_px)

    @property
    def bounds(self) -> Box:
        """The whole slide."""
        return Box.of_size(self.extent)

    def __len__(self) -> int:
        return self.rows * self.cols

    def __getitem__(self, index: GridIndex) -> Tile:
        if not (0 <= index.row < self.rows and 0 <= index.col < self.cols):
            msg = f"tile {index} is outside the grid of {self.rows} rows and {self.cols} columns"
            raise RegionError(msg)
        x0, y0 = index.col * self.core_px, index.row * self.core_px
        square = Box(x0=x0, y0=y0, x1=x0 + self.core_px, y1=y0 + self.core_px)
        return Tile(
            index=index, core=square.intersect(self.bounds), window=square.grow(self.halo_px)
        )

    def __iter__(self) -> Iterator[Tile]:
        for row in range(self.rows):
            for col in range(self.cols):
                yield self[GridIndex(row=row, col=col)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A block of whole tiles: the unit of memory, of resume and of distribution.

    Attributes:
        index: Place among the regions.
        core: The tiles' cores together; regions' cores partition the slide.
        window: The tiles' windows together; it may reach outside the slide.
        tiles: The tiles, row by row.
    """

    index: GridIndex
    core: Box
    window: Box
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionGrid:
    """Square blocks of `side` x `side` tiles over a tile grid.

    Raises:
        SettingsError: `side` is below 1.
    """

    grid: TileGrid
    side: int

    def __post_init__(self) -> None:
        if self.side < 1:
            msg = f"a region needs at least one tile on a side, got {self.side}"
            raise SettingsError(msg)

    @property
    def core_px(self) -> int:
        """Side of a region's core."""
        return self.side * self.grid.core_px

    @property
    def rows(self) -> int:
        """Number of region rows."""
        return ceil(self.grid.rows / self.side)

    @property
    def cols(self) -> int:
        """Number of region columns."""
        return ceil(self.grid.cols / self.side)

    def __len__(self) -> int:
        return self.rows * self.cols

    def __getitem__(self, index: GridIndex) -> Region:
        if not (0 <= index.row < self.rows and 0 <= index.col < self.cols):
            msg = f"region {index} is outside the {self.rows} x {self.cols} regions"
            raise RegionError(msg)
        rows = range(index.row * self.side, min((index.row + 1) * self.side, self.grid.rows))
        cols = range(index.col * self.side, min((index.col + 1) * self.side, self.grid.cols))
        tiles = tuple(self.grid[GridIndex(row=r, col=c)] for r in rows for c in cols)
        first, last = tiles[0], tiles[-1]
        return Region(
            index=index,
            core=Box(x0=first.core.x0, y0=first.core.y0, x1=last.core.x1, y1=last.core.y1),
            window=Box(
                x0=first.window.x0, y0=first.window.y0, x1=last.window.x1, y1=last.window.y1
            ),
            tiles=tiles,
        )

    def __iter__(self) -> Iterator[Region]:
        for place in self.places:
            yield self[place]

    def reaching(self, region: Region) -> Iterator[Region]:
        """The other regions whose windows show a pixel of this region's core."""
        for index in self.places_reaching(region.index):
            yield self[index]

    def places_reaching(self, at: GridIndex) -> Iterator[GridIndex]:
        """The places of the regions that reach the one at a place, without their tiles."""
        reach = ceil(self.grid.halo_px / self.core_px)
        for row in range(max(0, at.row - reach), min(self.rows, at.row + reach + 1)):
            for col in range(max(0, at.col - reach), min(self.cols, at.col + reach + 1)):
                if (row, col) != (at.row, at.col):
                    yield GridIndex(row=row, col=col)

    @property
    def places(self) -> Iterator[GridIndex]:
        """The places of all regions, without their tiles."""
        for row in range(self.rows):
            for col in range(self.cols):
                yield GridIndex(row=row, col=col)
