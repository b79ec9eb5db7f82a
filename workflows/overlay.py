"""The picture of a result: the slide's thumbnail, the objects on it, a legend and a scale."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from math import floor, log10
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slideloom.models.spec import ModelClass
from slideloom.postprocess.measure.table import Roi
from slideloom.workflows.export.atomic import atomic_file

__all__ = ["Overlay", "round_length_um", "write_png"]

Picture = NDArray[np.uint8]
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

# cv2 takes whole numbers; with 4 more bits a line lies where it should to 1/16 px.
_SHIFT_BITS = 4
# Objects that are smaller than this in the picture would be hidden by a wider line.
_WIDE_LINE_FROM_PX = 24
# Of objects that are smaller than this, an outline could not be told from a dot.
_DOT_BELOW_PX = 2
_POINT_RADIUS_PX = 2
# Dark between two bright lines: seen on tissue, on glass and on a dark slide.
_ROI_LINES = (((255, 255, 255), 7), ((0, 0, 0), 3))
# The tissue has to be seen through a tile that is sure of its class.
_MOST_OPAQUE = 0.5
_INK, _PAPER = (40, 40, 40), (255, 255, 255)
# zlib's own default; higher ones take twice the time for one percent.
_COMPRESSION = 6
_MOST_BYTES = 4_000_000


class Overlay:
    """A thumbnail on which objects are drawn part by part, with a legend and a scale bar below.

    Outlines are anti-aliased, in their class's colour, and two pixels wide where the object is
    large enough. Tiles are filled instead, the less transparent the higher their score. Over all
    lie the borders of the ROIs, black between white, with their names. The legend counts the
    objects of each class.

    Args:
        thumbnail: `(y, x, 3)` RGB, the whole slide from its origin; it stays as it is.
        classes: Drawn in this order in each part, so the last lies on top; others are not drawn.
        scale: Thumbnail pixels per level-0 pixel.
        mpp: Micrometres per level-0 pixel.
        filled: Whether the objects are tiles, upright rectangles that are filled.
        rois: Outlined and named.
    """

    def __init__(
        self,
        thumbnail: Picture,
        *,
        classes: Sequence[ModelClass],
        scale: float,
        mpp: float,
        filled: bool = False,
        rois: Sequence[Roi] = (),
    ) -> None:
        self._picture = np.ascontiguousarray(thumbnail).copy()
        self._classes = tuple(classes)
        self._counts = [0] * len(self._classes)
        self._scale, self._mpp, self._filled = scale, mpp, filled
        self._rois = tuple(rois)

    def add(self, objects: gpd.GeoDataFrame) -> None:
        """Draw some objects, geometry in level-0 pixels; none are fine."""
        names = objects["class"].to_numpy()
        geometry = objects.geometry.to_numpy()
        for number, item in enumerate(self._classes):
            chosen = names == item.name
            self._counts[number] += int(chosen.sum())
            if self._filled:
                scores = objects["score"].to_numpy()[chosen]
                self._shade(geometry[chosen], scores, color=item.color)
            else:
                self._draw(geometry[chosen], item.color)

    def finish(self) -> Picture:
        """`(y + legend, x, 3)` RGB."""
        named = zip(self._classes, self._counts, strict=True)
        unit = " tiles" if self._filled else ""
        labels = [f"{_plain(item.name)}  {count:,}{unit}" for item, count in named]
        legend = _Legend(width=self._picture.shape[1], um_per_px=self._mpp / self._scale)
        picture = self._with_rois(legend.font)
        return np.concatenate([picture, legend.draw(labels, self._classes)])

    def _with_rois(self, font: Font) -> Picture:
        """The picture with the borders and the names of the ROIs."""
        if not self._rois:
            return self._picture
        lined = self._picture.copy()
        areas = np.array([roi.geometry for roi in self._rois], dtype=object)
        for color, thickness in _ROI_LINES:
            outlines = _outlines(areas, self._scale)
            cv2.polylines(lined, outlines, True, color, thickness, cv2.LINE_AA, shift=_SHIFT_BITS)
        named = Image.fromarray(lined)
        pen = ImageDraw.Draw(named)
        for roi in self._rois:
            points = shapely.get_coordinates(roi.geometry) * self._scale
            top = points[np.lexsort(points.T)[0]]
            _write_name(pen, _plain(roi.name), place=top, font=font)
        return np.asarray(named)

    def _draw(self, geometry: NDArray[Any], color: tuple[int, int, int]) -> None:
        boxes = shapely.bounds(geometry).reshape(-1, 4) * self._scale
        side = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, initial=0)
        is_point = shapely.get_type_id(geometry) == shapely.GeometryType.POINT
        dots = (side < _DOT_BELOW_PX) & ~is_point
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        self._fill(centres[dots], radius=0, color=color)
        self._fill(centres[is_point], radius=_POINT_RADIUS_PX, color=color)
        wide = side >= _WIDE_LINE_FROM_PX
        for chosen, thickness in ((~wide & ~dots, 1), (wide, 2)):
            outlines = _outlines(geometry[chosen], self._scale)
            cv2.polylines(
                self._picture, outlines, True, color, thickness, cv2.LINE_AA, shift=_SHIFT_BITS
            )

    def _shade(
        self, geometry: NDArray[Any], scores: NDArray[Any], *, color: tuple[int, int, int]
    ) -> None:
        """Lay the colour over each rectangle; those that share an edge share no pixel."""
        corners = np.rint(shapely.bounds(geometry) * self._scale).astype(np.int64)
        for (x0, y0, x1, y1), score in zip(corners.tolist(), scores.tolist(), strict=True):
            pixels = self._picture[y0:y1, x0:x1]
            mixed = pixels + _MOST_OPAQUE * score * (np.array(color) - pixels)
            pixels[:] = np.rint(mixed).astype(np.uint8)

    def _fill(
        self, centres: NDArray[np.float64], *, radius: int, color: tuple[int, int, int]
    ) -> None:
        """Colour the square of pixels around each centre `(x, y)`."""
        height, width = self._picture.shape[:2]
        side = 2 * radius + 1
        step = np.indices((side, side)).reshape(2, -1).T - radius
        cells = np.floor(centres[:, ::-1]).astype(np.int64)[:, None] + step[None]
        y, x = cells.reshape(-1, 2).T
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        self._picture[y[inside], x[inside]] = color


def write_png(path: Path, picture: Picture) -> None:
    """Write `(y, x, 3)` RGB as PNG, atomically; a picture of more than 4 MB is made smaller.

    It keeps all its colours: those of the classes mean something.

    Raises:
        OutputError: The file cannot be written.
    """
    data = _png(picture)
    while data.size > _MOST_BYTES:
        # Noise of fewer pixels is less noise: the bytes fall faster than the pixels.
        shrink = (_MOST_BYTES / data.size) ** 0.5
        size = [max(1, int(side * shrink)) for side in picture.shape[1::-1]]
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        data = _png(picture)
    with atomic_file(path) as file:
        file.write(data.tobytes())


def _png(picture: Picture) -> NDArray[np.uint8]:
    options = [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION]
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return np.asarray(data, np.uint8)


def _write_name(
    pen: ImageDraw.ImageDraw, name: str, *, place: NDArray[np.float64], font: Font
) -> None:
    """Write on a piece of paper that hangs from `place`, and stays within the picture."""
    left, top, right, bottom = font.getbbox(name)
    pad = (bottom - top) // 2
    wide, high = right - left + 2 * pad, bottom - top + 2 * pad
    width, height = pen.im.size
    x = min(max(0.0, place[0]), max(0.0, width - wide))
    y = min(max(0.0, place[1]), max(0.0, height - high))
    pen.rectangle((x, y, x + wide, y + high), fill=_PAPER, outline=(0, 0, 0))
    pen.text((x + pad - left, y + pad - top), name, fill=_INK, font=font)


def _outlines(geometry: NDArray[Any], scale: float) -> list[NDArray[np.int32]]:
    """Every ring, as `(n, 2)` points in cv2's fixed-point picture coordinates.

    Of points that follow each other in one pixel of the picture only the first is drawn: outlines
    run along the slide's pixels, so most steps are far below a pixel of the picture.
    """
    rings = shapely.get_rings(geometry)
    # To cv2 a whole number is a pixel's centre, to us it is a pixel's corner.
    points = shapely.get_coordinates(rings) * scale - 0.5
    sizes = shapely.get_num_coordinates(rings)
    fixed = np.rint(points * 2**_SHIFT_BITS).astype(np.int32)
    ring = np.repeat(np.arange(len(sizes)), sizes)
    cell = np.column_stack([ring, np.rint(points).astype(np.int64)])
    kept = np.ones(len(cell), np.bool_)
    kept[1:] = (cell[1:] != cell[:-1]).any(axis=1)
    ends = np.cumsum(np.bincount(ring[kept], minlength=len(sizes)))
    return np.split(fixed[kept], ends[:-1]) if len(rings) else []


def round_length_um(longest_um: float) -> float:
    """The greatest of 1, 2 and 5 times a power of ten that is not above `longest_um`.

    Examples:
        >>> [round_length_um(um) for um in (1.0, 4.9, 730.0)]
        [1.0, 2.0, 500.0]
    """
    power = 10.0 ** floor(log10(longest_um))
    # The logarithm of a number just below a power of ten may round up to that power.
    return next(step * power for step in (5.0, 2.0, 1.0, 0.5) if step * power <= longest_um)


def _plain(text: str) -> str:
    """Without accents: the font that Pillow ships has ASCII only, and draws boxes for the rest."""
    letters = unicodedata.normalize("NFKD", text)
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode("ascii")


class _Legend:
    """The strip below the picture; its text grows with the picture."""

    def __init__(self, *, width: int, um_per_px: float) -> None:
        self.width = width
        self.unit = max(10, width // 110)
        self.font = ImageFont.load_default(size=1.5 * self.unit)
        bar_um = round_length_um(width * um_per_px / 5)
        self.bar_px = round(bar_um / um_per_px)
        self.bar_label = f"{bar_um / 1000:g} mm" if bar_um >= 1000 else f"{bar_um:g} um"
        self.bar_room = max(self.bar_px, self._text_px(self.bar_label)) + 2 * self.unit

    def draw(self, labels: Sequence[str], classes: Sequence[ModelClass]) -> Picture:
        """`(legend, x, 3)` RGB: a swatch and a label per class, wrapped, and the scale bar."""
        unit = self.unit
        places = self._places(labels)
        height = max([5 * unit, *(y + 3 * unit for _, y in places)])
        strip = Image.new("RGB", (self.width, height), _PAPER)
        pen = ImageDraw.Draw(strip)
        for (x, y), label, item in zip(places, labels, classes, strict=True):
            pen.rectangle((x, y, x + 2 * unit, y + 2 * unit), fill=item.color)
            pen.text((x + 2.7 * unit, y + unit), label, fill=_INK, font=self.font, anchor="lm")
        self._draw_bar(pen)
        return np.asarray(strip)

    def _draw_bar(self, pen: ImageDraw.ImageDraw) -> None:
        middle = self.width - self.bar_room // 2
        left = middle - self.bar_px // 2
        pen.rectangle(
            (left, self.unit, left + self.bar_px - 1, self.unit + self.unit // 3), fill=_INK
        )
        place = (middle, 1.8 * self.unit)
        pen.text(place, self.bar_label, fill=_INK, font=self.font, anchor="ma")

    def _text_px(self, text: str) -> int:
        return round(self.font.getlength(text))

    def _places(self, labels: Sequence[str]) -> list[tuple[int, int]]:
        """Top left of each entry, in lines that end before the scale bar."""
        places = []
        x, y = self.unit, self.unit
        for label in labels:
            wide = 4 * self.unit + self._text_px(label)
            if x > self.unit and x + wide > self.width - self.bar_room:
                x, y = self.unit, y + 3 * self.unit
            places.append((x, y))
            x += wide
        return places
