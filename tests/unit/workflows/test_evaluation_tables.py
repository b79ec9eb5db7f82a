"""Two files of one image against each other: figures worked by hand, and our own exports."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import orjson
import pytest
import shapely

from slideloom.errors import MissingMppError, SettingsError
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.evaluation.command import EvaluationRequest, evaluate
from slideloom.workflows.evaluation.measuring import EvaluationSettings
from slideloom.workflows.evaluation.tables import evaluate_tables, read_objects
from slideloom.workflows.run import run_slide
from slideloom.wsi import open_slide
from tests.makers.colour_model import MPP, ColourModel, Rectangle, picture, table


def geojson(path: Path, shapes: Sequence[tuple[shapely.Geometry, str]], score: float = 1) -> Path:
    features: list[dict[str, Any]] = [
        {
            "type": "Feature",
            "geometry": orjson.loads(shapely.to_geojson(shape)),
            "properties": {"classification": {"name": name}, "measurements": {"Score": score}},
        }
        for shape, name in shapes
    ]
    raw = orjson.dumps({"type": "FeatureCollection", "features": features})
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


SQUARE = shapely.box(0, 0, 10, 10)
SHIFTED = shapely.box(2, 0, 12, 10)
APART = shapely.box(50, 50, 60, 60)


def test_instances_by_exact_areas(tmp_path: Path) -> None:
    truth = geojson(tmp_path / "truth.geojson", [(SQUARE, "a"), (APART, "b")])
    pred = geojson(tmp_path / "pred.geojson.gz", [(SHIFTED, "a"), (APART, "a")])
    found = evaluate_tables(pred, truth)
    assert found.task == "instance"
    assert found.classes == ("a", "b")
    assert found.value("PQ") == pytest.approx((80 / 120 + 1) / 2)
    assert found.value("AJI+") == pytest.approx(180 / 220)
    assert found.value("PQ", of="a") == pytest.approx(80 / 120 / 1.5)
    assert found.value("PQ", of="b") == 0
    assert found.value("F1@0.7") == pytest.approx(0.5)
    assert found.figures["low"].isna().all()


def test_semantic_by_areas_of_classes(tmp_path: Path) -> None:
    # Two polygons of one class that overlap are one area.
    truth = geojson(tmp_path / "truth.geojson", [(SQUARE, "a"), (SHIFTED, "a")])
    pred = geojson(tmp_path / "pred.geojson", [(SQUARE, "a")])
    found = evaluate_tables(pred, truth, task="semantic")
    assert found.value("Dice") == pytest.approx(2 * 100 / (120 + 100))
    assert found.value("IoU") == pytest.approx(100 / 120)
    assert np.isnan(found.value("pixel accuracy"))
    area = shapely.box(0, 0, 40, 10)
    inside = evaluate_tables(pred, truth, task="semantic", area=area)
    assert inside.value("pixel accuracy") == pytest.approx(380 / 400)
    cut = evaluate_tables(pred, truth, task="semantic", area=shapely.box(0, 0, 10, 10))
    assert cut.value("Dice") == 1


def test_points_are_compared_by_distance(tmp_path: Path) -> None:
    points = [(shapely.Point(5, 5), "a"), (shapely.Point(55, 55), "a")]
    truth = geojson(tmp_path / "truth.geojson", points)
    pred = geojson(tmp_path / "pred.geojson", [(SHIFTED, "a"), (APART, "a"), (APART, "a")])
    found = evaluate_tables(pred, truth, mpp=0.5)
    assert found.task == "detection"
    assert found.value("F1@3um") == pytest.approx(2 * 2 / 5)
    # The centres of the first pair are 2 px, 1 um apart.
    near = evaluate_tables(pred, truth, mpp=0.5, settings=EvaluationSettings(distance_um=0.9))
    assert near.value("F1@0.9um") == pytest.approx(2 * 1 / 5)
    assert "mAP@50" not in set(found.figures["figure"])
    with pytest.raises(MissingMppError, match="--mpp"):
        evaluate_tables(pred, truth)


def test_boxes_give_average_precision(tmp_path: Path) -> None:
    truth = geojson(tmp_path / "truth.geojson", [(SQUARE, "a"), (APART, "a")])
    pred = geojson(tmp_path / "pred.geojson", [(SHIFTED, "a")])
    found = evaluate_tables(pred, truth, task="detection", mpp=1.0)
    assert found.value("mAP@50") == pytest.approx(51 / 101)
    assert found.value("mAP@50:95") == pytest.approx(51 / 101 * 4 / 10)


def test_only_the_known_area_counts(tmp_path: Path) -> None:
    truth = geojson(tmp_path / "truth.geojson", [(SQUARE, "a")])
    pred = geojson(tmp_path / "pred.geojson", [(SQUARE, "a"), (APART, "a")])
    area = shapely.box(0, 0, 20, 20)
    assert evaluate_tables(pred, truth, area=area).value("PQ") == 1
    assert evaluate_tables(pred, truth).value("PQ") == pytest.approx(2 / 3)
    boxes = evaluate_tables(pred, truth, task="detection", area=area, mpp=1.0)
    assert boxes.value("F1@3um") == 1


@pytest.mark.parametrize("name", ["objects.geojson", "objects.parquet"])
def test_exports_of_a_run_are_read_back(tmp_path: Path, name: str) -> None:
    scene = [
        Rectangle(x0=10, y0=10, x1=40, y1=30, name="red"),
        Rectangle(x0=100, y0=20, x1=140, y1=50, name="blue"),
    ]
    path = picture(tmp_path / "a.png", scene)
    with open_slide(path, mpp=MPP) as slide:
        run_slide(
            slide, ColourModel("instance"), out=tmp_path / "out", config=RunConfig(tissue=False)
        )
    boxes = table(scene)
    shapes = list(zip(boxes.geometry, boxes["class"], strict=True))
    truth = geojson(tmp_path / "truth.geojson", shapes)
    pred = tmp_path / "out" / name
    request = EvaluationRequest(pred=pred, truth=truth)
    found = evaluate(request, out=tmp_path / "figures")
    assert found.value("PQ") == pytest.approx(1)
    assert (tmp_path / "figures" / "figures.json").is_file()
    assert "score" in read_objects(pred)


def test_broken_polygons_are_mended_and_empty_ones_left_out(tmp_path: Path) -> None:
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    path = geojson(tmp_path / "a.geojson", [(bow, "a"), (SQUARE, "a")])
    document = orjson.loads(path.read_bytes())
    document["features"].append({"type": "Feature", "geometry": None, "properties": None})
    path.write_bytes(orjson.dumps(document["features"]))
    objects = read_objects(path)
    assert len(objects) == 2
    assert shapely.is_valid(objects.geometry.to_numpy()).all()
    assert float(objects.geometry.iloc[0].area) == pytest.approx(50)


def test_files_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    good = geojson(tmp_path / "good.geojson", [(SQUARE, "a")])
    text, number = tmp_path / "text.geojson", tmp_path / "number.geojson"
    text.write_text("no JSON")
    number.write_text("[3]")
    broken = tmp_path / "a.parquet"
    broken.write_bytes(b"PAR1")
    for path in (text, number, broken, tmp_path / "missing.geojson", tmp_path / "missing.parquet"):
        with pytest.raises(SettingsError, match=path.name):
            evaluate_tables(path, good)
    nothing = geojson(tmp_path / "nothing.geojson", [])
    with pytest.raises(SettingsError, match="nothing to compare"):
        evaluate_tables(nothing, nothing)
    with pytest.raises(SettingsError, match="evaluate a model instead"):
        evaluate_tables(good, good, task="classification")
    assert evaluate_tables(nothing, good).value("PQ") == 0


def test_many_polygons_in_linear_time(tmp_path: Path) -> None:
    side = 60
    y, x = np.divmod(np.arange(side * side), side) * np.full((2, 1), 10.0)
    truth = gpd.GeoDataFrame(
        {"class": "a"}, index=range(len(x)), geometry=shapely.box(x, y, x + 8, y + 8)
    )
    pred = gpd.GeoDataFrame(
        {"class": "a"}, index=range(len(x)), geometry=shapely.box(x + 1, y, x + 9, y + 8)
    )
    truth.to_parquet(tmp_path / "truth.parquet")
    pred.to_parquet(tmp_path / "pred.parquet")
    found = evaluate_tables(tmp_path / "pred.parquet", tmp_path / "truth.parquet")
    assert found.value("PQ") == pytest.approx(56 / 72)
    assert found.value("AJI+") == pytest.approx(56 / 72)


@pytest.mark.parametrize(("distance", "expected"), [(None, "F1@3um"), ("1.5", "F1@1.5um")])
def test_the_command_takes_the_distance_of_centres(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], distance: str | None, expected: str
) -> None:
    truth = geojson(tmp_path / "truth.geojson", [(shapely.Point(10, 10), "a")])
    pred = geojson(tmp_path / "pred.geojson", [(shapely.Point(12, 10), "a")])
    words = ["evaluate", "--pred", str(pred), "--truth", str(truth), "--mpp", "1"]
    assert run_command([*words, *([] if distance is None else ["--distance", distance])]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if f"{expected} | a" in line]
    # 2 um apart: one object at 3 um, two at 1.5 um.
    assert row.split("|")[3].strip().startswith("1.000" if distance is None else "0.000")
