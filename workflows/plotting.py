"""A result as a matplotlib plot: the slide with its objects over it, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from slideloom.errors import RegionError, SettingsError, SlideloomError
from slideloom.workflows.report.picture import read_picture, slide_part
from slideloom.workflows.result import OVERLAY_FILE, SlideResult
from slideloom.wsi import Box, Size, Slide
from slideloom.wsi.source import parse_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path as Outline

__all__ = ["MOST_OUTLINES", "plot_result"]

MOST_OUTLINES = 50_000
"""Of more objects a plot shows the centroids: outlines would be smaller than its pixels."""

_PICTURE_PX = 1600
_MILLIMETRES_FROM_UM = 5000
_FILL, _PALE = 0.35, 0.45
_THIN_LINES_FROM = 1000
_CLASS = "class"
# Few objects are far from all others; they must not make the rest one colour.
_PERCENTILES = (1, 99)


def plot_result(result: SlideResult, ax: Axes | None, *, column: str, box: Box | None) -> Axes:
    """See `SlideResult.plot`."""
    ax = _new_axes() if ax is None else ax
    size = Size(width=result.record.slide.width, height=result.record.slide.height)
    frame = Box.of_size(size) if box is None else box.intersect(Box.of_size(size))
    if frame.is_empty:
        msg = (
            f"{box} lies outside slide '{result.record.slide.name}' of {size.width} x "
            f"{size.height} px: give level-0 pixels"
        )
        raise RegionError(msg)
    objects = result.objects if box is None else _objects_in(result, frame)
    if column != _CLASS:
        _check_column(objects, column)
    unit = _Unit(frame, result.record.slide.mpp)
    picture, shown = _background(result, frame)
    # Colours that stand for values are read wrongly on a coloured tissue.
    strength = 1.0 if column == _CLASS else _PALE
    ax.imshow(picture, extent=unit.extent(shown), interpolation="antialiased", alpha=strength)
    if column == _CLASS:
        _draw_classes(ax, objects, result=result, unit=unit)
    else:
        _draw_values(ax, objects, column=column, unit=unit)
    left, right, bottom, top = unit.extent(frame)
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", title=result.record.slide.name)
    ax.set(xlabel=f"x ({unit.name})", ylabel=f"y ({unit.name})")
    return ax


class _Unit:
    """Of the axes: um, or mm where the longer side has 5 mm or more."""

    def __init__(self, frame: Box, mpp: float) -> None:
        in_mm = max(frame.shape) * mpp >= _MILLIMETRES_FROM_UM
        self.name = "mm" if in_mm else "\N{MICRO SIGN}m"
        self.per_px = mpp / 1000 if in_mm else mpp

    def extent(self, box: Box) -> tuple[float, float, float, float]:
        """Left, right, bottom, top, as `imshow` takes them: y grows downwards."""
        sides = (box.x0, box.x1, box.y1, box.y0)
        left, right, bottom, top = (side * self.per_px for side in sides)
        return left, right, bottom, top


def _new_axes() -> Axes:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        msg = (
            "result.plot() draws with matplotlib, which is not installed: "
            "pip install 'slideloom[plot]'"
        )
        raise SettingsError(msg) from error
    return pyplot.subplots(figsize=(8, 8), layout="constrained")[1]


def _objects_in(result: SlideResult, box: Box) -> gpd.GeoDataFrame:
    """Those that meet the box; the rest of the table is not read."""
    objects = gpd.read_parquet(result.table, bbox=(box.x0, box.y0, box.x1, box.y1))
    return objects[objects.intersects(shapely.box(box.x0, box.y0, box.x1, box.y1))]


def _check_column(objects: gpd.GeoDataFrame, column: str) -> None:
    numeric = pd.DataFrame(objects).select_dtypes(["number", "bool"]).columns
    if column not in numeric:
        known = ", ".join([_CLASS, *map(str, numeric)])
        msg = f"objects cannot be coloured by {column!r}: choose from {known}"
        raise SettingsError(msg)


def _background(result: SlideResult, box: Box) -> tuple[NDArray[np.uint8], Box]:
    """A picture, and what it shows of level 0; from the slide, else from its overlay."""
    record = result.record.slide
    whole = Box.of_size(Size(width=record.width, height=record.height))
    try:
        with Slide(parse_source(record.path), record.options) as slide:
            if slide.size == Size(width=record.width, height=record.height):
                return _read(slide, box, mpp=record.mpp)
    except (SlideloomError, OSError):
        # The slide is elsewhere by now; its picture is in the result.
        pass
    return slide_part(read_picture(result.folder / OVERLAY_FILE), record), whole


def _read(slide: Slide, box: Box, *, mpp: float) -> tuple[NDArray[np.uint8], Box]:
    if box == Box.of_size(slide.size):
        return slide.thumbnail(_PICTURE_PX), box
    scale = max(1.0, max(box.shape) / _PICTURE_PX)
    small = Box(
        x0=int(box.x0 / scale),
        y0=int(box.y0 / scale),
        x1=int(np.ceil(box.x1 / scale)),
        y1=int(np.ceil(box.y1 / scale)),
    )
    sides = (small.x0, small.y0, small.x1, small.y1)
    x0, y0, x1, y1 = (round(side * scale) for side in sides)
    return slide.read_at_mpp(small, mpp=mpp * scale), Box(x0=x0, y0=y0, x1=x1, y1=y1)


def _draw_classes(ax: Axes, objects: gpd.GeoDataFrame, *, result: SlideResult, unit: _Unit) -> None:
    """Each class in its colour, and a legend with counts beside the picture."""
    from matplotlib.collections import PathCollection
    from matplotlib.patches import Patch

    entries = []
    width = 0.8 if len(objects) < _THIN_LINES_FROM else 0.4
    for item in result.record.model.classes:
        red, green, blue = (part / 255 for part in item.color)
        color, faint = (red, green, blue), (red, green, blue, _FILL)
        chosen = objects[objects["class"] == item.name]
        entries.append(
            Patch(facecolor=faint, edgecolor=color, label=f"{item.name} {len(chosen):,}")
        )
        if _as_outlines(objects):
            outlines = _outlines(chosen, unit)
            ax.add_collection(
                PathCollection(outlines, facecolors=[faint], edgecolors=[color], lw=width)
            )
        else:
            x, y = _centroids(chosen, unit)
            ax.scatter(x, y, s=_dot_size(len(objects)), color=[color], linewidths=0)
    ax.legend(handles=entries, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


def _draw_values(ax: Axes, objects: gpd.GeoDataFrame, *, column: str, unit: _Unit) -> None:
    """Each object in the colour of its value, and a colour bar; those without a value are left."""
    from matplotlib.collections import PathCollection

    values = objects[column].to_numpy(float)
    there = np.isfinite(values)
    objects, values = objects[there], values[there]
    low, high = np.percentile(values, _PERCENTILES) if len(values) else (0.0, 1.0)
    if _as_outlines(objects):
        drawn = PathCollection(_outlines(objects, unit), cmap="viridis", lw=0)
        drawn.set_array(values)
        ax.add_collection(drawn)
    else:
        x, y = _centroids(objects, unit)
        drawn = ax.scatter(x, y, s=_dot_size(len(objects)), c=values, cmap="viridis", linewidths=0)
    drawn.set_clim(low, high if low < high else low + 1)
    beyond = {(True, True): "both", (True, False): "min", (False, True): "max"}
    ends = bool((values < low).any()), bool((values > high).any())
    ends_drawn = beyond.get(ends, "neither")
    ax.figure.colorbar(drawn, ax=ax, label=column, shrink=0.7, extend=ends_drawn)


def _as_outlines(objects: gpd.GeoDataFrame) -> bool:
    """Whether objects are drawn with their shape: they are few, and have one."""
    return len(objects) <= MOST_OUTLINES and not (objects.geom_type == "Point").any()


def _dot_size(count: int) -> float:
    """In square points; many dots are small."""
    return 12.0 if count <= 1000 else 4.0 if count <= MOST_OUTLINES else 0.5


def _centroids(objects: gpd.GeoDataFrame, unit: _Unit) -> tuple[NDArray[Any], NDArray[Any]]:
    places = shapely.get_coordinates(shapely.centroid(objects.geometry.to_numpy())) * unit.per_px
    return places[:, 0], places[:, 1]


def _outlines(objects: gpd.GeoDataFrame, unit: _Unit) -> list[Outline]:
    """One path for each object: its rings, so that holes stay open."""
    from matplotlib.path import Path as Outline

    # A hole is one to matplotlib where it turns the other way than the outer ring.
    turned = shapely.normalize(objects.geometry.to_numpy())
    rings, owner = shapely.get_rings(turned, return_index=True)
    sizes = shapely.get_num_coordinates(rings)
    points = shapely.get_coordinates(rings) * unit.per_px
    codes = np.full(len(points), Outline.LINETO, np.uint8)
    ends = np.cumsum(sizes)
    codes[ends - sizes] = Outline.MOVETO
    codes[ends - 1] = Outline.CLOSEPOLY
    firsts = np.flatnonzero(np.diff(owner, prepend=-1))
    cuts: Sequence[int] = (ends - sizes)[firsts].tolist()
    return [
        Outline(vertices, parts)
        for vertices, parts in zip(
            np.split(points, cuts[1:]), np.split(codes, cuts[1:]), strict=True
        )
        if len(vertices)
    ]
