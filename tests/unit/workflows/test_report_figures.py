"""Histograms and maps of the report: every bar and every cell is counted again from the table."""

from base64 import b64decode
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from slideloom.models.spec import ModelClass
from slideloom.workflows.report import histograms as module
from slideloom.workflows.report import render_report
from slideloom.workflows.report.axes import nice_step, ticks_of
from slideloom.workflows.report.columns import Columns
from slideloom.workflows.report.histograms import MEASUREMENTS, histograms, robust_edges
from slideloom.workflows.report.maps import background_of, slide_maps
from slideloom.workflows.report.picture import embed_jpeg
from tests.makers.html import Element, read_html
from tests.makers.report_folder import (
    CLASSES,
    HEIGHT,
    HOSTILE,
    MPP,
    WIDTH,
    make_counts,
    make_folder,
    make_objects,
    make_record,
    write_objects,
)

MEASURED = ["area_um2", "circularity", "score", "haematoxylin_od_mean"]


@pytest.fixture(scope="module")
def objects() -> gpd.GeoDataFrame:
    return make_objects()


@pytest.fixture(scope="module")
def page(objects: gpd.GeoDataFrame, tmp_path_factory: pytest.TempPathFactory) -> Element:
    folder = make_folder(tmp_path_factory.mktemp("figures"), make_counts(""), objects)
    return read_html(render_report(folder, make_record()))


def values_of(objects: gpd.GeoDataFrame, *, name: str, column: str) -> NDArray[np.float64]:
    return np.asarray(objects.loc[objects["class"] == name, column], np.float64)


def figure(page: Element, source: str, *, figure: str, of: str) -> float | None:
    found = page.all("data", data_source=source, data_figure=figure, data_of=of)
    assert len(found) <= 1
    if not found:
        return None
    assert float(found[0].text.replace(",", "")) == float(found[0].attributes["value"])
    return float(found[0].attributes["value"])


@pytest.mark.parametrize("column", MEASURED)
@pytest.mark.parametrize("name", [item.name for item in CLASSES])
def test_every_bar_is_the_tables(
    page: Element, objects: gpd.GeoDataFrame, column: str, name: str
) -> None:
    source = f"objects.parquet#{column}"
    bars = page.all("rect", data_source=source, data_of=name)
    values = values_of(objects, name=name, column=column)
    lows, highs = (
        np.array([float(bar.attributes[f"data-{end}"]) for bar in bars]) for end in ("low", "high")
    )
    assert lows[1:].tolist() == highs[:-1].tolist()
    ends = list(zip(lows, highs, strict=True))
    inside = [int(((values >= low) & (values < high)).sum()) for low, high in ends]
    inside[-1] += int((values == highs[-1]).sum())
    assert [int(bar.attributes["data-count"]) for bar in bars] == inside
    finite = values[np.isfinite(values)]
    below, above = int((finite < lows[0]).sum()), int((finite > highs[-1]).sum())
    missing = len(values) - len(finite)
    stated = {what: figure(page, source, figure=what, of=name) for what in ("below", "above")}
    if below or above or missing:
        assert stated == {"below": below, "above": above}
    else:
        assert stated == {"below": None, "above": None}
    assert figure(page, source, figure="missing", of=name) == (missing or None)
    assert figure(page, source, figure="total", of=name) == len(finite)
    assert figure(page, source, figure="peak", of=name) == max(inside)
    heights = np.array([float(bar.attributes["height"]) for bar in bars])
    np.testing.assert_allclose(heights, 100 * np.array(inside) / max(inside), atol=0.01)
    feet = [float(bar.attributes["y"]) + float(bar.attributes["height"]) for bar in bars]
    np.testing.assert_allclose(feet, 100, atol=0.02)


def test_the_cases_are_not_empty(objects: gpd.GeoDataFrame) -> None:
    assert set(objects["class"]) == {"gland", HOSTILE}
    assert objects["haematoxylin_od_mean"].isna().sum() == 1
    assert (objects["area_um2"] == 90_000).sum() == 2


def test_one_object_of_a_thousand_times_the_size_does_not_squeeze_the_axis() -> None:
    values = np.concatenate([np.random.default_rng(1).uniform(20, 60, 2000), [1e6]])
    edges, logarithmic = robust_edges(values)
    assert not logarithmic
    assert edges[-1] <= 62
    assert 20 <= len(edges) - 1 <= 62


def test_sizes_over_decades_have_a_logarithmic_axis() -> None:
    values = 10 ** np.random.default_rng(1).uniform(1, 5, 2000)
    edges, logarithmic = robust_edges(values)
    assert logarithmic
    np.testing.assert_allclose(np.diff(np.log10(edges)), 0.2)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50).filter(lambda v: min(v) < max(v)))
def test_edges_rise_and_hold_the_middle(values: list[float]) -> None:
    edges, _ = robust_edges(np.array(values))
    assert (np.diff(edges) > 0).all()
    assert 1 <= len(edges) - 1 <= 62
    assert edges[0] <= np.median(values) <= edges[-1]


def test_a_large_table_is_sampled_for_the_axis_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = make_objects(9000)
    write_objects(tmp_path, objects)
    columns = Columns(tmp_path / "objects.parquet", [item.name for item in CLASSES])
    whole = histograms(columns, make_record().model)
    monkeypatch.setattr(module, "_SAMPLE", 700)
    monkeypatch.setattr("slideloom.workflows.report.columns._ROWS", 1000)
    sampled = histograms(columns, make_record().model)
    for one, other in zip(whole, sampled, strict=True):
        assert one.edges[-1] == pytest.approx(other.edges[-1], rel=0.2)
        for bars, name in zip(other.classes, [item.name for item in CLASSES], strict=True):
            values = values_of(objects, name=name, column=other.of.column)
            assert bars.total == np.isfinite(values).sum()


def test_what_is_not_measured_or_always_the_same_has_no_histogram(tmp_path: Path) -> None:
    objects = make_objects().drop(columns=["haematoxylin_od_mean"]).assign(area_um2=0.0, score=0.5)
    objects["score"] = np.nan
    write_objects(tmp_path, objects)
    columns = Columns(tmp_path / "objects.parquet", [item.name for item in CLASSES])
    assert [item.of.column for item in histograms(columns, make_record().model)] == ["circularity"]
    assert [item.column for item in MEASUREMENTS] == MEASURED


def test_of_many_classes_those_with_most_objects_are_shown(tmp_path: Path) -> None:
    classes = tuple(ModelClass(name=f"c{number}", color=(number, 0, 0)) for number in range(11))
    names = np.repeat([item.name for item in classes], np.arange(11) * 3)
    objects = make_objects(len(names))
    write_objects(tmp_path, objects.assign(**{"class": pd.Series(names, dtype=str)}))
    columns = Columns(tmp_path / "objects.parquet", [item.name for item in classes])
    spec = make_record().model.model_copy(update={"classes": classes})
    shown = histograms(columns, spec)[0]
    assert [bars.item.name for bars in shown.classes] == [f"c{number}" for number in range(3, 11)]
    assert shown.left_out == 2


def test_a_result_without_objects_has_no_figures(tmp_path: Path) -> None:
    page = read_html(render_report(make_folder(tmp_path, make_counts("")), make_record()))
    assert page.all("figure", _class="map") == page.all("figure", _class="histogram") == []
    write_objects(tmp_path, gpd.GeoDataFrame(geometry=[]))
    page = read_html(render_report(tmp_path, make_record()))
    assert page.all("rect") == []


def cells_of(picture: Element) -> NDArray[np.uint8]:
    data = b64decode(picture.attributes["href"].split(",", 1)[1])
    with Image.open(BytesIO(data)) as cells:
        return np.asarray(cells)


def test_every_cell_of_a_density_map_is_the_tables(
    page: Element, objects: gpd.GeoDataFrame
) -> None:
    maps = page.all("figure", _class="map")
    assert [item.one("h3").text for item in maps] == ["All objects", "gland", HOSTILE]
    # 22,000 px of 0.25 um are 5.5 mm: cells of 100 um go 55 times into it.
    edges = [np.append(np.arange(0, side, 400), side) for side in (HEIGHT, WIDTH)]
    for item in maps:
        name = item.one("h3").text
        chosen = objects if name == "All objects" else objects[objects["class"] == name]
        counts = np.histogram2d(chosen["centroid_y_px"], chosen["centroid_x_px"], bins=edges)[0]
        areas = np.outer(np.diff(edges[0]), np.diff(edges[1])) * MPP**2 / 1e6
        density = counts / areas
        source = "objects.parquet#centroid_x_px, centroid_y_px"
        assert figure(item, source, figure="highest", of=name) == pytest.approx(density.max())
        cells = cells_of(item.one("image"))
        assert cells.shape == (*counts.shape, 4)
        assert np.array_equal(cells[..., 3] > 0, counts > 0)
        assert "cells of 100 \N{MICRO SIGN}m" in item.one("figcaption").text
        top = figure(item, source, figure="top", of=name)
        assert top is not None
        drawn = cells[..., :3].sum(axis=2, dtype=float)
        # The denser the darker, and all that is denser than the ramp's end alike.
        order = sorted(
            {(min(value, top), drawn[place]) for place, value in np.ndenumerate(density) if value}
        )
        assert all(first[1] >= second[1] for first, second in pairwise(order))
        assert len(order) > 1


def test_a_map_lies_on_the_slide(page: Element) -> None:
    for item in page.all("figure", _class="map"):
        outer, inner = item.all("svg")[:2]
        assert outer.attributes["viewbox"] == f"0 0 {WIDTH} {HEIGHT}"
        # The inner drawing clips the cells that reach beyond the slide.
        assert (inner.attributes["width"], inner.attributes["height"]) == (str(WIDTH), str(HEIGHT))
        cells = item.one("image")
        assert float(cells.attributes["width"]) == 400 * 55
        assert float(cells.attributes["height"]) == 400 * 30


def test_one_class_has_one_map(tmp_path: Path) -> None:
    objects = make_objects()
    folder = make_folder(tmp_path, make_counts(""), objects[objects["class"] == "gland"])
    assert [item.item for item in slide_maps(folder, make_record())] == [None]


@pytest.mark.parametrize("paper", [250, 10])
def test_what_lies_under_a_map_is_pale_grey_with_darker_tissue(paper: int) -> None:
    picture = np.full((90, 90, 3), paper, np.uint8)
    picture[30:40, 30:40] = (140, 60, 120)
    data = b64decode(background_of(picture).url.split(",", 1)[1])
    with Image.open(BytesIO(data)) as under:
        pixels = np.asarray(under.convert("RGB")).astype(int)
    assert pixels.min() >= 145
    assert np.ptp(pixels, axis=2).max() <= 2
    assert pixels[35, 35, 0] < pixels[5, 5, 0] - 10


def test_a_picture_that_may_have_few_bytes_is_made_smaller() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (500, 300, 3), np.uint8)
    picture = embed_jpeg(noise, side_px=240, most_bytes=6000)
    assert len(b64decode(picture.url.split(",", 1)[1])) <= 6000
    assert picture.width < picture.height < 240
    tiny = embed_jpeg(noise, side_px=240, most_bytes=10)
    assert 20 < tiny.height <= 48


@given(st.floats(1e-6, 1e9))
def test_steps_are_round(least: float) -> None:
    rounds = [step * 10.0**power for power in range(-7, 11) for step in (1, 2, 5)]
    assert nice_step(least) == pytest.approx(min(value for value in rounds if value >= least))


@pytest.mark.parametrize(
    ("low", "high", "logarithmic", "texts"),
    [
        (0.35, 1.0, False, ["0.4", "0.6", "0.8", "1"]),
        (0.0, 300.0, False, ["0", "100", "200", "300"]),
        (7.0, 2500.0, True, ["10", "100", "1,000"]),
    ],
)
def test_ticks(low: float, high: float, logarithmic: bool, texts: list[str]) -> None:
    ticks = ticks_of(low, high, logarithmic=logarithmic)
    assert [tick.text for tick in ticks] == texts
    for tick in ticks:
        value = float(tick.text.replace(",", ""))
        along = (
            np.interp(np.log(value), np.log([low, high]), [0, 1])
            if logarithmic
            else (value - low) / (high - low)
        )
        assert tick.place == pytest.approx(along)
