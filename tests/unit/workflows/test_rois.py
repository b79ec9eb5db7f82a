"""Regions of interest: which areas of a file are taken, and what they are called."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import shapely

from slideloom.errors import RoiError
from slideloom.testing import write_slide
from slideloom.workflows.rois import read_rois
from slideloom.wsi import Slide, open_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    write_slide(path, np.full((200, 300, 3), 240, np.uint8), mpp=0.5)
    return open_slide(path)


def _feature(x0: float, y0: float, x1: float, y1: float, **properties: Any) -> dict[str, Any]:
    """A rectangle as QuPath writes it."""
    shape = shapely.geometry.mapping(shapely.box(x0, y0, x1, y1))
    return {"type": "Feature", "id": "x", "geometry": shape, "properties": properties}


def _class(*names: str) -> dict[str, Any]:
    if len(names) > 1:
        return {"names": list(names), "color": [200, 0, 0]}
    return {"name": names[0], "color": [200, 0, 0]}


QUPATH = [
    _feature(0, 0, 10, 10, objectType="annotation", name="core A", classification=_class("Tumor")),
    _feature(20, 0, 30, 10, classification=_class("Stroma")),
    _feature(40, 0, 50, 10, classification=_class("Tumor", "CD3")),
    _feature(60, 0, 70, 10, name="core B", classification="Tumor"),
    _feature(80, 0, 90, 10, name="", classification=None),
    _feature(100, 0, 110, 10, name="core A"),
    _feature(105, 0, 120, 10, name="core A"),
]


def _write(folder: Path, features: Any, *, name: str = "rois.geojson") -> Path:
    path = folder / name
    data = orjson.dumps(features)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def _areas(path: Path, slide: Slide, *names: str) -> dict[str, float]:
    return {
        roi.name: float(shapely.area(roi.geometry)) for roi in read_rois(path, slide, names=names)
    }


@pytest.mark.parametrize("ending", ["geojson", "geojson.gz"])
def test_a_roi_has_the_name_of_its_annotation_or_else_of_its_class(
    tmp_path: Path, slide: Slide, ending: str
) -> None:
    path = _write(tmp_path, {"features": QUPATH}, name=f"rois.{ending}")
    # Areas of one name are one ROI, of what they cover together.
    assert _areas(path, slide) == {
        "core A": 100 + 200,
        "Stroma": 100,
        "Tumor: CD3": 100,
        "core B": 100,
        "roi-5": 100,
    }
    assert next(iter(_areas(path, slide))) == "core A"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("core A",), {"core A": 300.0}),
        # By class, under the annotation's own names.
        (("Tumor",), {"core A": 100.0, "core B": 100.0}),
        (("Tumor: CD3", "Stroma"), {"Stroma": 100.0, "Tumor: CD3": 100.0}),
        (("roi-5",), {"roi-5": 100.0}),
    ],
)
def test_areas_are_chosen_by_the_names_of_annotations_or_of_classes(
    tmp_path: Path, slide: Slide, *, names: tuple[str, ...], found: dict[str, float]
) -> None:
    assert _areas(_write(tmp_path, QUPATH), slide, *names) == found


def test_an_unknown_name_is_an_error_that_lists_the_known_ones(
    tmp_path: Path, slide: Slide
) -> None:
    path = _write(tmp_path, QUPATH)
    with pytest.raises(RoiError, match="no area called 'tumor', 'x': it has 'core A', 'Tumor', "):
        read_rois(path, slide, names=["tumor", "Stroma", "x"])
    many = [_feature(0, 0, 9, 9, name=f"n{number}") for number in range(30)]
    with pytest.raises(RoiError, match=r"'n19' and 10 more; check --roi-name$"):
        read_rois(_write(tmp_path, many), slide, names=["n30"])


def test_areas_off_the_slide_matter_only_where_they_are_asked_for(
    tmp_path: Path, slide: Slide
) -> None:
    path = _write(tmp_path, [*QUPATH, _feature(900, 0, 910, 10, name="off")])
    assert _areas(path, slide, "Stroma") == {"Stroma": 100}
    with pytest.raises(RoiError, match="lies outside slide"):
        read_rois(path, slide)


def test_an_area_without_a_name_takes_no_name_that_another_has(
    tmp_path: Path, slide: Slide
) -> None:
    features = [
        _feature(0, 0, 10, 10),
        _feature(20, 0, 30, 10, name="roi-1"),
        {**_feature(0, 0, 1, 1), "properties": None},
    ]
    assert list(_areas(_write(tmp_path, features), slide)) == ["roi-4", "roi-1", "roi-3"]


def test_areas_of_one_name_that_meet_are_valid_together(tmp_path: Path, slide: Slide) -> None:
    ring = shapely.difference(shapely.box(0, 0, 90, 90), shapely.box(30, 30, 60, 60))
    features = [
        {**_feature(0, 0, 1, 1, name="a"), "geometry": shapely.geometry.mapping(ring)},
        _feature(30, 30, 60, 60, name="a"),
        _feature(-50, 80, 10, 190, name="a"),
    ]
    (roi,) = read_rois(_write(tmp_path, features), slide)
    assert shapely.is_valid(roi.geometry)
    assert shapely.area(roi.geometry) == 90 * 90 + 10 * 100


def test_a_damaged_archive_is_a_clear_error(tmp_path: Path, slide: Slide) -> None:
    path = _write(tmp_path, QUPATH, name="rois.geojson.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RoiError, match="is damaged"):
        read_rois(path, slide)
    with pytest.raises(RoiError, match="cannot be read"):
        read_rois(tmp_path / "none.geojson", slide)
