"""A collection in several files: each whole and small enough, all together the one big file."""

import gzip
from itertools import pairwise
from pathlib import Path

import geopandas as gpd
import numpy as np
import orjson
import pytest
import shapely

from slideloom.errors import OutputError
from slideloom.testing.geojson import validate_geojson
from slideloom.workflows.export.context import ExportContext
from slideloom.workflows.export.geojson import open_geojson
from slideloom.workflows.export.series import atomic_series, series_paths
from slideloom.wsi.geometry import Point
from tests.makers.finished_result import CLASSES, squares

HEAD, TAIL = b'{"type":"FeatureCollection","features":[', b"\n]}\n"


def written(path: Path, *parts: gpd.GeoDataFrame, split_mb: float | None = None) -> list[Path]:
    context = ExportContext(
        classes=CLASSES,
        object_type="detection",
        offset=Point(x=0, y=0),
        mpp=0.5,
        split_mb=split_mb,
    )
    with open_geojson(path, context) as writer:
        for part in parts:
            writer.write(part)
    paths = series_paths(path)
    for file in paths:
        validate_geojson(file)
    return paths


def text(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def features(*paths: Path) -> list[bytes]:
    return [line.rstrip(b",") for path in paths for line in text(path).splitlines()[1:-1]]


def fine(count: int) -> gpd.GeoDataFrame:
    """Objects of which every third is a hundred times as long as the others."""
    objects = squares(count)
    rough = np.arange(count) % 3 == 0
    centres = shapely.centroid(objects.geometry.to_numpy())
    objects.loc[rough, "geometry"] = shapely.buffer(centres[rough], 2, quad_segs=50)
    return objects


@pytest.mark.parametrize("name", ["objects.geojson", "objects.geojson.gz"])
@pytest.mark.parametrize("split_mb", [0.01, 0.05])
def test_files_hold_all_features_in_order_and_none_is_too_large(
    tmp_path: Path, name: str, split_mb: float
) -> None:
    objects = fine(600)
    [whole] = written(tmp_path / f"whole.{name.partition('.')[2]}", objects)
    paths = written(
        tmp_path / name, objects[:250], objects[250:251], objects[251:], split_mb=split_mb
    )
    assert len(paths) > 2
    assert [path.name for path in paths[:2]] == [name, name.replace(".", ".2.", 1)]
    assert max(path.stat().st_size for path in paths) <= split_mb * 1e6
    assert features(*paths) == features(whole)
    assert all(features(path) for path in paths)


def test_a_file_takes_as_many_features_as_fit(tmp_path: Path) -> None:
    paths = written(tmp_path / "a.geojson", fine(300), split_mb=0.02)
    for path, after in pairwise(paths):
        assert path.stat().st_size + len(b",\n") + len(features(after)[0]) > 20_000
    assert len(HEAD + TAIL) < min(path.stat().st_size for path in paths)


def test_compressed_files_are_nearly_full(tmp_path: Path) -> None:
    paths = written(tmp_path / "a.geojson.gz", fine(4000), split_mb=0.05)
    assert len(paths) > 3
    for path in paths[:-1]:
        assert 0.9 * 50_000 < path.stat().st_size <= 50_000


def test_an_exact_fit_is_one_file_and_one_byte_less_is_two(tmp_path: Path) -> None:
    [whole] = written(tmp_path / "a.geojson", squares(2), split_mb=1)
    size = whole.stat().st_size
    assert written(whole, squares(2), split_mb=size / 1e6) == [whole]
    assert len(written(whole, squares(2), split_mb=(size - 1) / 1e6)) == 2


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_a_feature_that_is_larger_than_a_file_has_one_of_its_own(tmp_path: Path, name: str) -> None:
    objects = squares(5)
    turns = np.linspace(0, 2 * np.pi, 3000)
    wild = (
        np.column_stack([np.cos(turns), np.sin(turns)]) * (2000 + 7 * np.sin(99 * turns))[:, None]
    )
    objects.loc[2, "geometry"] = shapely.Polygon(wild)
    paths = written(tmp_path / name, objects, split_mb=0.005)
    assert [len(features(path)) for path in paths] == [2, 1, 2]
    assert paths[1].stat().st_size > 5000


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
@pytest.mark.parametrize("split_mb", [None, 0.01, 1e-6])
def test_no_objects_are_one_empty_collection(
    tmp_path: Path, name: str, split_mb: float | None
) -> None:
    [path] = written(tmp_path / name, squares(0), split_mb=split_mb)
    assert orjson.loads(text(path)) == {"type": "FeatureCollection", "features": []}


def test_cuts_do_not_depend_on_the_parts(tmp_path: Path) -> None:
    objects = fine(300)
    paths = written(tmp_path / "a.geojson", objects, split_mb=0.02)
    others = written(
        tmp_path / "b.geojson", *(objects[i : i + 1] for i in range(300)), split_mb=0.02
    )
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in others]


def test_files_of_an_earlier_and_longer_series_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    assert len(written(path, fine(300), split_mb=0.02)) > 4
    assert len(written(path, fine(30), split_mb=0.02)) == 2
    assert len(list(tmp_path.iterdir())) == 2
    written(path, fine(90))
    assert [file.name for file in tmp_path.iterdir()] == ["a.geojson"]


def fill_and_fail(path: Path, error: type[BaseException]) -> None:
    with atomic_series(path) as series:
        series.begin().write(b"half")
        series.begin().write(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_series_that_fails_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.geojson"
    with pytest.raises(error):
        fill_and_fail(path, error)
    assert list(tmp_path.iterdir()) == []
    before = [file.read_bytes() for file in written(path, fine(90), split_mb=0.02)]
    with pytest.raises(error):
        fill_and_fail(path, error)
    assert [file.read_bytes() for file in series_paths(path)] == before
    assert len(list(tmp_path.iterdir())) == len(before)


def test_the_first_file_has_its_name_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, rename = tmp_path / "a.geojson", Path.replace
    written(path, fine(90), split_mb=0.02)
    steps: list[str] = []

    def noted(part: Path, to: Path) -> Path:
        assert not path.exists()
        steps.append(to.name)
        return rename(part, to)

    monkeypatch.setattr(Path, "replace", noted)
    written(path, fine(45), split_mb=0.02)
    assert steps == ["a.3.geojson", "a.2.geojson", "a.geojson"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    # Killed while it gave names, from the last file to the first.
    for name in (".a.geojson.part", ".a.2.geojson.part", "a.3.geojson", "a.11.geojson"):
        (tmp_path / name).write_bytes(b"half")
    kept = ["a.2.geojson.gz", "a.b.geojson", "aa.geojson"]
    for name in kept:
        (tmp_path / name).touch()
    written(tmp_path / "a.geojson", squares(3))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, "a.geojson"])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no/a\.geojson"):
        written(tmp_path / "no" / "a.geojson", squares(1), split_mb=1)
