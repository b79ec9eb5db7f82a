"""The overlay shows objects where they are, and a legend that tells the truth."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from shapely import Polygon, box

from slideloom.models.spec import ModelClass
from slideloom.postprocess.measure.table import Roi
from slideloom.workflows.overlay import Overlay, round_length_um, write_png

RED = ModelClass(name="tumour", color=(200, 0, 0))
GREEN = ModelClass(name="stroma", color=(0, 150, 0))
GREY = 220


def blank(side: int = 200) -> NDArray[np.uint8]:
    return np.full((side, side, 3), GREY, np.uint8)


def table(*polygons: shapely.Geometry, names: list[str] | None = None) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {"class": ["tumour"] * len(polygons) if names is None else names}, geometry=list(polygons)
    )


def overlay(objects: gpd.GeoDataFrame, **settings: Any) -> NDArray[np.uint8]:
    usual: dict[str, Any] = {"classes": (RED, GREEN), "scale": 1.0, "mpp": 0.5}
    drawing = Overlay(blank(), **(usual | settings))
    drawing.add(objects)
    return drawing.finish()


def drawn(objects: gpd.GeoDataFrame, **settings: Any) -> NDArray[np.bool_]:
    """Which of the thumbnail's pixels an outline touches."""
    touched: NDArray[np.bool_] = (overlay(objects, **settings)[:200] != GREY).any(axis=2)
    return touched


def test_an_outline_lies_on_the_objects_edge() -> None:
    touched = drawn(table(box(40, 60, 120, 140)))
    near_edge = np.zeros((200, 200), bool)
    near_edge[57:143, 37:123] = True
    near_edge[63:137, 43:117] = False
    assert touched[near_edge].mean() > 0.3
    assert not touched[~near_edge].any()


def test_pixel_edges_and_not_centres_are_meant() -> None:
    ink = GREY - overlay(table(box(90, 90, 110, 110)))[:200, :, 1].astype(float)
    columns, rows = ink[100, 80:100], ink[80:100, 100]
    middles = np.arange(80, 100) + 0.5
    assert (columns * middles).sum() / columns.sum() == pytest.approx(90, abs=0.1)
    assert (rows * middles).sum() / rows.sum() == pytest.approx(90, abs=0.1)


def test_the_scale_brings_level_0_to_the_thumbnail() -> None:
    small = overlay(table(box(50, 50, 150, 150)))[:200]
    large = overlay(table(box(1000, 1000, 3000, 3000)), scale=0.05)[:200]
    assert np.array_equal(small, large)


def test_holes_are_outlined_too() -> None:
    ring = Polygon(box(20, 20, 180, 180).exterior, [box(80, 80, 120, 120).exterior])
    assert drawn(table(ring))[75:125, 75:125].any()
    assert not drawn(table(box(20, 20, 180, 180)))[75:125, 75:125].any()


def test_the_last_class_lies_on_top() -> None:
    both = table(box(50, 50, 150, 150), box(50, 50, 150, 150), names=["stroma", "tumour"])
    on_edge = overlay(both)[49:51, 100]
    assert (on_edge[:, 1] > on_edge[:, 0]).all()


def test_small_objects_get_a_thin_line() -> None:
    thin = drawn(table(box(90, 90, 110, 110))).sum() / 20
    wide = drawn(table(box(60, 60, 140, 140))).sum() / 80
    assert wide > 1.2 * thin


def test_an_object_too_small_for_an_outline_is_one_dot() -> None:
    touched = drawn(table(box(100.2, 50.1, 101.4, 51.2), box(-9, -9, -8, -8), box(7e5, 0, 7e5, 0)))
    assert np.argwhere(touched).tolist() == [[50, 100]]


def test_a_point_is_a_square_of_five_pixels() -> None:
    touched = drawn(table(shapely.Point(80.5, 40.5), shapely.Point(0.5, 0.5)))
    expected = np.zeros((200, 200), bool)
    expected[38:43, 78:83] = True
    expected[:3, :3] = True
    assert np.array_equal(touched, expected)


def test_parts_add_up_to_the_whole() -> None:
    shapes = [box(10, 10, 40, 40), box(60, 60, 80, 90), box(100, 20, 180, 90)]
    parts = Overlay(blank(), classes=(RED, GREEN), scale=1.0, mpp=0.5)
    for shape in shapes:
        parts.add(table(shape))
    assert np.array_equal(parts.finish(), overlay(table(*shapes)))


def test_the_thumbnail_stays_as_it_is_and_stands_on_top_of_the_legend() -> None:
    thumbnail = blank()
    drawing = Overlay(thumbnail, classes=(RED,), scale=1.0, mpp=0.5)
    drawing.add(table(box(20, 20, 60, 60)))
    assert (thumbnail == GREY).all()
    picture = Overlay(thumbnail, classes=(RED,), scale=1.0, mpp=0.5).finish()
    assert (thumbnail == GREY).all()
    assert np.array_equal(picture[:200], thumbnail)
    assert picture.shape[0] > 200
    assert picture.shape[1:] == (200, 3)
    assert picture.dtype == np.uint8


def test_objects_beyond_the_thumbnail_do_no_harm() -> None:
    assert not drawn(table(box(-900, -900, -800, -800), box(5e5, 5e5, 6e5, 6e5))).any()


def legend(objects: gpd.GeoDataFrame, **settings: Any) -> NDArray[np.uint8]:
    return overlay(objects, **settings)[200:]


def holds(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> bool:
    return bool((picture == color).all(axis=2).any())


def test_the_legend_has_every_class_and_its_count() -> None:
    one, two = table(box(0, 0, 9, 9)), table(box(0, 0, 9, 9), box(20, 0, 29, 9))
    assert holds(legend(table()), RED.color)
    assert holds(legend(table()), GREEN.color)
    assert not np.array_equal(legend(one), legend(two))
    assert np.array_equal(legend(one), legend(table(box(70, 70, 90, 90))))


def test_many_classes_take_more_lines() -> None:
    many = [ModelClass(name=f"class {i}", color=(i, i, 9)) for i in range(12)]
    strip = legend(table(), classes=many)
    assert strip.shape[0] > legend(table()).shape[0]
    assert all(holds(strip, item.color) for item in many)


def test_a_name_with_an_accent_is_written_without() -> None:
    accented, plain = (
        legend(table(), classes=[ModelClass(name=name, color=(9, 9, 9))])
        for name in ("n\u00e9crose", "necrose")
    )
    assert np.array_equal(accented, plain)


@pytest.mark.parametrize(("scale", "mpp", "bar_px"), [(1.0, 0.5, 40), (0.1, 0.3, 33)])
def test_the_scale_bar_is_as_long_as_it_says(scale: float, mpp: float, bar_px: int) -> None:
    # A fifth of 200 px is 20 um, then 120 um: the bars are of 20 um and of 100 um.
    strip = legend(table(), scale=scale, mpp=mpp, classes=())
    assert (strip[10] == (40, 40, 40)).all(axis=1).sum() == bar_px


@given(st.floats(1e-3, 1e7))
def test_round_lengths(longest: float) -> None:
    rounds = [step * 10.0**power for power in range(-4, 8) for step in (1, 2, 5)]
    expected = max(value for value in rounds if value <= longest)
    assert round_length_um(longest) == pytest.approx(expected)


def test_a_png_holds_the_picture(tmp_path: Path) -> None:
    picture = overlay(table(box(40, 60, 120, 140)))
    write_png(tmp_path / "a.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_tiles_are_tinted_by_their_score_and_share_no_pixel() -> None:
    tiles = table(box(0, 0, 51, 51), box(51, 0, 102, 51), names=["tumour", "stroma"])
    tiles["score"] = [1.0, 0.5]
    picture = overlay(tiles, filled=True, scale=0.5)[:200].astype(int)
    # 51 level-0 pixels are 25.5 pixels of the picture: the border goes to one of two columns.
    (border,) = np.flatnonzero(np.diff(picture[10, :51, 0]) != 0)
    sure, unsure = picture[:26, : border + 1], picture[:26, border + 1 : 51]
    np.testing.assert_array_equal(sure, np.broadcast_to([210, 110, 110], sure.shape))
    np.testing.assert_array_equal(unsure, np.broadcast_to([165, 202, 165], unsure.shape))
    assert (picture[26:] == GREY).all()
    assert (picture[:, 51:] == GREY).all()


def test_a_legend_of_tiles_counts_tiles() -> None:
    tiles = table(box(0, 0, 50, 50)).assign(score=1.0)
    outlined, filled = overlay(tiles)[200:], overlay(tiles, filled=True)[200:]
    assert (filled < 128).sum() > (outlined < 128).sum()


def with_rois(*rois: Roi, objects: gpd.GeoDataFrame | None = None) -> NDArray[np.uint8]:
    return overlay(table() if objects is None else objects, rois=rois)[:200]


def test_a_roi_is_a_black_line_between_white_ones() -> None:
    picture = with_rois(Roi(name="a", geometry=box(40, 60, 160, 180)))
    across = picture[150, 30:50].max(axis=1)
    dark = np.flatnonzero(across < 90)
    # The border lies between pixels 9 and 10 of the cut.
    assert dark.min() + dark.max() == 19
    assert 3 <= len(dark) <= 6
    assert across[[dark.min() - 1, dark.max() + 1]].min() > GREY + 20
    assert (picture[100:140, 60:140] == GREY).all()


def test_a_rois_name_hangs_from_its_top_and_stays_in_the_picture() -> None:
    corner = Roi(name="a long name", geometry=box(190, 190, 199, 199))
    for roi, near in (
        (Roi(name="tumour", geometry=box(40, 60, 160, 180)), np.s_[60:85, 40:110]),
        (corner, np.s_[170:200, 90:200]),
    ):
        picture = with_rois(roi)
        assert (picture[near] == 255).all(axis=2).sum() > 300
        assert (picture[near].max(axis=2) < 60).sum() > 20
        assert not np.array_equal(picture, with_rois(Roi(name="b", geometry=roi.geometry)))


def test_rois_lie_over_the_objects() -> None:
    area = box(40, 40, 160, 160)
    objects = table(box(40, 40, 160, 160))
    over = with_rois(Roi(name="a", geometry=area), objects=objects)
    assert (over[100, 36:45].max(axis=1) < 60).any()
    assert not (overlay(objects)[100, 36:45].max(axis=1) < 60).any()


def test_a_picture_of_too_many_bytes_is_made_smaller_and_keeps_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slideloom.workflows.overlay._MOST_BYTES", 20_000)
    noise = np.random.default_rng(2).integers(0, 255, (120, 180, 3), np.uint8)
    write_png(tmp_path / "a.png", noise)
    assert (tmp_path / "a.png").stat().st_size <= 20_000
    with Image.open(tmp_path / "a.png") as picture:
        assert 60 < picture.height < 120
        assert picture.width / picture.height == pytest.approx(1.5, rel=0.03)
