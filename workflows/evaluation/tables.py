"""Compare two tables of objects of one image: what was found, and the truth."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import orjson
import shapely

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.workflows.evaluation.evaluation import Evaluation
from slideloom.workflows.evaluation.images import Within, class_names
from slideloom.workflows.evaluation.measuring import EvaluationSettings, measure, score_for
from slideloom.workflows.export.measurements import measurement_name

__all__ = ["evaluate_tables", "read_objects"]

_UNNAMED = "object"
"""The class of objects that have none."""
_SCORE = measurement_name("score")
"""How our own exports call it."""


def evaluate_tables(
    pred: Path,
    truth: Path,
    *,
    task: Task | None = None,
    area: shapely.Geometry | None = None,
    mpp: float | None = None,
    settings: EvaluationSettings | None = None,
) -> Evaluation:
    """Measure the objects of one file against those of another, on one image.

    Polygons are compared by their exact areas, so both files may come from any tool and grid.

    Args:
        pred: GeoJSON (`.geojson`, `.json` or `.gz`) or GeoParquet (`.parquet`) of what was found.
        truth: The same of the truth, of the same image and in the same pixels.
        task: How to compare: semantic (areas of classes), instance (polygon by polygon) or
            detection (boxes and centres). None takes detection where one side holds only points,
            else instance.
        area: Where the truth is complete, in the pixels of the files; None takes all objects.
        mpp: Micrometres per pixel, for distances; None takes what a GeoParquet file states.
        settings: How to measure; None takes the defaults.

    Returns:
        Figures without intervals, as there is one image; classes are those of both files, sorted.

    Raises:
        SettingsError: A file cannot be read, there is nothing in both, or the task does not fit.
        MissingMppError: Detection is measured, and nobody states the mpp.
    """
    settings = settings or EvaluationSettings()
    found, annotated = read_objects(pred), read_objects(truth)
    classes = tuple(sorted({*class_names(found), *class_names(annotated)}))
    if not classes:
        msg = f"neither '{pred}' nor '{truth}' holds an object: there is nothing to compare"
        raise SettingsError(msg)
    task = task or _task_of(found, annotated)
    score = score_for(task, classes, overlapping=True, settings=settings)
    stated = mpp or annotated.attrs.get("mpp") or found.attrs.get("mpp")
    tally = score.compare_tables(annotated, found, within=Within(area=area, mpp=stated))
    return Evaluation(
        task=task,
        classes=classes,
        images=(pred.name,),
        resampling=settings.resampling,
        measured=measure(
            score,
            [tally],
            name=pred.name,
            images=[pred.name],
            resampling=settings.resampling,
        ),
    )


def read_objects(path: Path) -> gpd.GeoDataFrame:
    """Objects of a GeoJSON or GeoParquet file: `geometry`, `class`, and `score` where it is told.

    Of GeoJSON the class is `properties.classification.name`, as QuPath writes it, and the score the
    measurement `Score`, as our exports call it. Objects without a class are of class `object`;
    invalid polygons are made valid, and objects without a geometry are left out.

    Raises:
        SettingsError: The file is missing or cannot be read as either.
    """
    try:
        table = _read_parquet(path) if path.suffix == ".parquet" else _read_geojson(path)
    except OSError as error:
        msg = f"'{path}' cannot be read ({error.strerror or error}): check the path"
        raise SettingsError(msg) from error
    except (AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        msg = f"'{path}' is neither GeoJSON nor GeoParquet ({error}): export the objects again"
        raise SettingsError(msg) from error
    geometry = table.geometry.to_numpy()
    kept = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
    table = table[kept].reset_index(drop=True)
    valid = table.geometry.to_numpy()
    broken = ~shapely.is_valid(valid)
    if broken.any():
        table = table.set_geometry(np.where(broken, shapely.make_valid(valid), valid))
    return table


def _read_parquet(path: Path) -> gpd.GeoDataFrame:
    table = gpd.read_parquet(path)
    if "class" not in table:
        table["class"] = _UNNAMED
    return table


def _read_geojson(path: Path) -> gpd.GeoDataFrame:
    raw = path.read_bytes()
    document: Any = orjson.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    features = document["features"] if isinstance(document, dict) else document
    properties = [feature.get("properties") or {} for feature in features]
    texts = [orjson.dumps(feature.get("geometry")).decode() for feature in features]
    columns: dict[str, Any] = {"class": [_class_of(each) for each in properties]}
    scores = [(each.get("measurements") or {}).get(_SCORE) for each in properties]
    if scores and None not in scores:
        columns["score"] = np.array(scores, np.float64)
    present = [None if text == "null" else text for text in texts]
    return gpd.GeoDataFrame(columns, geometry=shapely.from_geojson(np.array(present, object)))


def _class_of(properties: dict[str, Any]) -> str:
    return str((properties.get("classification") or {}).get("name") or _UNNAMED)


def _task_of(found: gpd.GeoDataFrame, truth: gpd.GeoDataFrame) -> Task:
    for table in (found, truth):
        flat = shapely.get_dimensions(table.geometry.to_numpy()) == 0
        if len(flat) and flat.all():
            return "detection"
    return "instance"
