"""`result.plot()` shows the slide and the objects where they are, in the colours that it names."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import matplotlib
import numpy as np
import pandas as pd
import pytest
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from slideloom.errors import RegionError, SettingsError
from slideloom.models.spec import ModelClass
from slideloom.testing import write_slide
from slideloom.workflows import plotting
from slideloom.workflows.result import SlideResult
from slideloom.wsi import Box
from tests.makers.report_folder import make_counts, make_folder, make_record

matplotlib.use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")

GLAND, CELL = ModelClass(name="gland", color=(200, 30, 30)), ModelClass(name="c", color=(0, 0, 255))
PAPER, MARK = (230, 225, 235), (20, 90, 20)
MPP = 0.5
RING = shapely.Polygon(
    shapely.box(100, 100, 300, 300).exterior, [shapely.box(150, 150, 250, 250).exterior]
)
SHAPES = (RING, shapely.box(400, 100, 500, 200), shapely.box(400, 300, 440, 340))


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def objects_of(shapes: tuple[shapely.Geometry, ...] = SHAPES) -> gpd.GeoDataFrame:
    count = len(shapes)
    return gpd.GeoDataFrame(
        {
            "id": pd.Series([str(number) for number in range(count)], dtype=str),
            "class": pd.Series(["gland", "gland", "c"][:count], dtype=str),
            "area_um2": np.array([10.0, 20.0, np.nan])[:count],
            "recombined": np.array([True, False, False])[:count],
        },
        geometry=list(shapes),
    )


def make_result(folder: Path, objects: gpd.GeoDataFrame, *, slide: bool = True) -> SlideResult:
    """A slide of 600 x 400 px with a green mark; its overlay is blue."""
    pixels = np.full((400, 600, 3), PAPER, np.uint8)
    pixels[320:380, 40:160] = MARK
    path = folder / "slide.tif"
    if slide:
        write_slide(path, pixels, mpp=MPP)
    record = make_record()
    of = record.slide.model_copy(
        update={"path": str(path), "name": "made", "width": 600, "height": 400, "mpp": MPP}
    )
    spec = record.model.model_copy(update={"classes": (GLAND, CELL)})
    result = make_folder(folder / "result", make_counts(""), objects)
    Image.new("RGB", (600, 450), (90, 120, 250)).save(result / "overlay.png")
    return SlideResult(folder=result, record=record.model_copy(update={"slide": of, "model": spec}))


@pytest.fixture
def result(tmp_path: Path) -> SlideResult:
    return make_result(tmp_path, objects_of())


class Drawn:
    """The pixels of an axes, by place in the axes' own unit."""

    def __init__(self, ax: Axes) -> None:
        figure = ax.figure
        assert isinstance(figure, Figure)
        figure.canvas.draw()
        canvas: Any = figure.canvas
        self._pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        self._ax = ax

    def at(self, x: float, y: float) -> NDArray[np.int64]:
        col, row = self._ax.transData.transform((x, y))
        pixel = self._pixels[self._pixels.shape[0] - 1 - int(row), int(col)]
        return np.asarray(pixel, np.int64)


def near(color: NDArray[np.int64], wanted: tuple[float, ...], *, by: int = 12) -> bool:
    return bool((np.abs(color - np.array(wanted)) <= by).all())


def test_the_slide_and_its_objects_lie_where_they_are(result: SlideResult) -> None:
    drawn = Drawn(ax := result.plot())
    assert near(drawn.at(270, 20), PAPER)
    # The mark is at x 40 to 160, y 320 to 380 px of 0.5 um.
    assert near(drawn.at(50, 175), MARK)
    assert not near(drawn.at(90, 175), MARK)
    tinted = tuple(0.65 * paper + 0.35 * own for paper, own in zip(PAPER, GLAND.color, strict=True))
    assert near(drawn.at(225, 75), tinted)
    assert near(drawn.at(62, 100), tinted)
    # The hole of the ring is open.
    assert near(drawn.at(100, 100), PAPER)
    assert drawn.at(210, 160)[0] < PAPER[0] - 40
    assert ax.get_title() == "made"
    assert ax.get_xlabel() == "x (\N{MICRO SIGN}m)"
    assert ax.get_ylim() == (200, 0)


def test_the_legend_counts_and_covers_nothing(result: SlideResult) -> None:
    ax = result.plot()
    legend = ax.get_legend()
    assert legend is not None
    assert [entry.get_text() for entry in legend.get_texts()] == ["gland 2", "c 1"]
    ax.figure.canvas.draw()
    assert legend.get_window_extent().x0 > ax.get_window_extent().x1


def test_a_box_shows_its_part_alone(result: SlideResult) -> None:
    ax = result.plot(box=Box(x0=380, y0=80, x1=700, y1=210))
    assert (ax.get_xlim(), ax.get_ylim()) == ((190, 300), (105, 40))
    (legend,) = [ax.get_legend()]
    assert legend is not None
    assert [entry.get_text() for entry in legend.get_texts()] == ["gland 1", "c 0"]
    assert near(Drawn(ax).at(290, 100), PAPER)


def test_a_large_box_is_read_at_a_coarser_scale(
    result: SlideResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotting, "_PICTURE_PX", 150)
    ax = result.plot(box=Box(x0=0, y0=10, x1=590, y1=400))
    (image,) = ax.get_images()
    height, width = np.asarray(image.get_array()).shape[:2]
    assert 145 <= width <= 151
    assert 95 <= height <= 102
    drawn = Drawn(ax)
    assert near(drawn.at(50, 175), MARK)
    assert near(drawn.at(50, 145), PAPER)


def test_without_the_slide_its_picture_is_shown(tmp_path: Path) -> None:
    result = make_result(tmp_path, objects_of(), slide=False)
    drawn = Drawn(ax := result.plot(box=Box(x0=0, y0=0, x1=600, y1=300)))
    assert near(drawn.at(290, 140), (90, 120, 250))
    # The overlay's legend is no part of the slide.
    assert np.asarray(ax.get_images()[0].get_array()).shape[:2] == (400, 600)


def test_a_measurement_has_a_colour_bar_and_leaves_out_what_has_no_value(
    result: SlideResult,
) -> None:
    ax = result.plot(column="area_um2")
    (drawn,) = [item for item in ax.collections if isinstance(item, PathCollection)]
    values = drawn.get_array()
    assert values is not None
    assert values.tolist() == [10.0, 20.0]
    bar = drawn.colorbar
    assert bar is not None
    assert bar.ax.get_ylabel() == "area_um2"
    cmap = matplotlib.colormaps["viridis"]
    pixels = Drawn(ax)
    for (x, y), end in (((62, 100), 0.0), ((225, 75), 1.0)):
        assert near(pixels.at(x, y), tuple(255 * part for part in cmap(end)[:3]))
    assert pixels.at(270, 20).min() > max(PAPER) - 15


def test_a_flag_can_colour(result: SlideResult) -> None:
    (drawn,) = result.plot(column="recombined").collections
    values = drawn.get_array()
    assert values is not None
    assert values.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("column", ["class", "area_um2"])
def test_many_objects_are_dots_at_their_centroids(
    result: SlideResult, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    monkeypatch.setattr(plotting, "MOST_OUTLINES", 1)
    ax = result.plot(column=column)
    places = np.concatenate([np.asarray(item.get_offsets()) for item in ax.collections])
    assert places[:2].tolist() == [[100, 100], [225, 75]]
    assert len(places) == (3 if column == "class" else 2)


def test_points_are_dots(tmp_path: Path) -> None:
    points = objects_of((shapely.Point(100, 100), shapely.Point(300, 200)))
    (gland, _) = make_result(tmp_path, points).plot().collections
    assert np.asarray(gland.get_offsets()).tolist() == [[50, 50], [150, 100]]


@pytest.mark.parametrize("column", ["class", "area_um2"])
def test_a_result_without_objects_is_a_picture(tmp_path: Path, column: str) -> None:
    drawn = Drawn(make_result(tmp_path, objects_of().iloc[:0]).plot(column=column))
    assert drawn.at(225, 75).min() > 200


def test_a_large_slide_is_in_millimetres(tmp_path: Path) -> None:
    result = make_result(tmp_path, objects_of(), slide=False)
    slide = result.record.slide.model_copy(update={"mpp": 10.0})
    large = SlideResult(
        folder=result.folder, record=result.record.model_copy(update={"slide": slide})
    )
    ax = large.plot()
    assert ax.get_xlabel() == "x (mm)"
    assert ax.get_xlim() == (0, 6)


def test_it_draws_where_it_is_told(result: SlideResult) -> None:
    _, (left, right) = pyplot.subplots(1, 2)
    assert result.plot(right) is right
    assert not left.get_images()


def test_what_cannot_be_drawn_is_said(result: SlideResult) -> None:
    with pytest.raises(SettingsError, match="choose from class, area_um2, recombined"):
        result.plot(column="colour")
    with pytest.raises(SettingsError, match="'id'"):
        result.plot(column="id")
    with pytest.raises(RegionError, match="outside slide 'made' of 600 x 400 px"):
        result.plot(box=Box(x0=700, y0=0, x1=800, y1=10))


def test_without_matplotlib_the_extra_is_named(
    result: SlideResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SettingsError, match=r"pip install 'slideloom\[plot\]'"):
        result.plot()
