"""Sizes, boxes, levels and resolutions: the words in which every layer speaks of place."""

from __future__ import annotations

from dataclasses import dataclass

from slideloom.errors import RegionError

_ANISOTROPY = 0.01
"""Relative difference of the two axes' um per pixel above which a scale has to be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Width and height in pixels; both are >= 0."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 0 or self.height < 0:
            msg = f"a size must be >= 0, got width {self.width} and height {self.height}"
            raise RegionError(msg)

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`, the order of array axes."""
        return self.height, self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place in whole pixels, counted from the origin."""

    x: int
    y: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A half-open rectangle of whole pixels: `x0 <= x < x1`, `y0 <= y < y1`.

    It may reach outside a slide; it may be empty, never inverted.
    """

    x0: int
    y0: int
    x1: int
    y1: int

    def __post_init__(self) -> None:
        if self.x1 < self.x0 or self.y1 < self.y0:
            msg = (
                f"a box must not be inverted, got x {self.x0}..{self.x1} and y {self.y0}..{self.y1}"
            )
            raise RegionError(msg)

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.y1 - self.y0

    @property
    def shape(self) -> tuple[int, int]:
        """`(height, width)`, the order of array axes."""
        return self.height, self.width

    @property
    def is_empty(self) -> bool:
        """Whether the box holds no pixel."""
        return self.x0 == self.x1 or self.y0 == self.y1

    def grow(self, px: int) -> Box:
        """The box with `px` more pixels on each of its four sides."""
        return Box(x0=self.x0 - px, y0=self.y0 - px, x1=self.x1 + px, y1=self.y1 + px)

    def intersect(self, other: Box) -> Box:
        """The common part; an empty box where the two share no pixel."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        x1, y1 = min(self.x1, other.x1), min(self.y1, other.y1)
        return Box(x0=x0, y0=y0, x1=max(x0, x1), y1=max(y0, y1))

    def contains(self, other: Box) -> bool:
        """Whether every pixel of `other` lies in this box."""
        return (
            self.x0 <= other.x0
            and self.y0 <= other.y0
            and other.x1 <= self.x1
            and other.y1 <= self.y1
        )

    def slices_in(self, frame: Box) -> tuple[slice, slice]:
        """`(y, x)` slices that cut this box out of an array that covers `frame`.

        Raises:
            RegionError: The box is not inside `frame`.
        """
        if not frame.contains(self):
            msg = f"box {self} does not lie inside {frame}"
            raise RegionError(msg)
        return (
            slice(self.y0 - frame.y0, self.y1 - frame.y0),
            slice(self.x0 - frame.x0, self.x1 - frame.x0),
        )

    @classmethod
    def of_size(cls, size: Size) -> Box:
        """The box from the origin that `size` spans."""
        return cls(x0=0, y0=0, x1=size.width, y1=size.height)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mpp:
    """Micrometres per pixel along each axis; both are > 0."""

    x: float
    y: float

    def __post_init__(self) -> None:
        if not (self.x > 0 and self.y > 0):
            msg = f"micrometres per pixel must be > 0, got x {self.x} and y {self.y}"
            raise RegionError(msg)

    @property
    def is_square(self) -> bool:
        """Whether the two differ by 1 % at most, so that one scale serves both axes."""
        return not abs(self.x - self.y) > _ANISOTROPY * min(self.x, self.y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of a slide's pyramid.

    Attributes:
        size: Pixels of the level.
        downsample: Level-0 pixels per pixel of this level (1.0 for level 0).
        tile: Pixels of one stored tile, the unit in which the file is decoded.
    """

    size: Size
    downsample: float
    tile: Size
