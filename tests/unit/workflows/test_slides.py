import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from slideloom.errors import SettingsError, SlideNotFoundError
from slideloom.workflows.slides import find_slides
from slideloom.wsi.geometry import Size
from slideloom.wsi.writing.labels import LabelImage, create_labels


def store(path: Path) -> Path:
    """An OME-Zarr of a few pixels."""
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("0", data=np.zeros((3, 8, 9), np.uint8), dimension_names=["c", "y", "x"])
    axes = [{"name": name, "type": "channel" if name == "c" else "space"} for name in "cyx"]
    scale = [{"type": "scale", "scale": [1, 0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    ome: Any = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group.attrs["ome"] = ome
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "slides"
    for name in ("b/one.svs", "b/two.NDPI", "b/notes.txt", "b/picture.png", "three.tif"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    store(root / "four.ome.zarr")
    (root / "b" / "five.zarr.zip").write_bytes(b"x")
    images = (LabelImage(name="objects", dtype="uint32"),)
    create_labels(root / "out" / "labels.ome.zarr", images, size=Size(width=9, height=8), mpp=1.0)
    return root


def test_a_folder_gives_its_slides_and_no_labels(folder: Path) -> None:
    found = [str(Path(path).relative_to(folder)) for path in find_slides([folder])]
    assert found == ["four.ome.zarr", "three.tif", "b/five.zarr.zip", "b/one.svs", "b/two.NDPI"]


def test_linked_folders_count_once_and_hidden_names_do_not(folder: Path, tmp_path: Path) -> None:
    for name in ("._three.tif", ".Trashes/old.svs", ".five.ome.zarr.part/new.tif"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    store(folder / ".six.ome.zarr")
    before = find_slides([folder])
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "seven.svs").write_bytes(b"x")
    (folder / "linked").symlink_to(tmp_path / "archive")
    (folder / "round").symlink_to(folder)
    assert all(not part.startswith(".") for path in before for part in Path(path).parts)
    assert find_slides([folder]) == [*before, folder / "linked" / "seven.svs"]


def test_names_globs_and_urls(folder: Path) -> None:
    asked: list[str | Path] = [
        folder / "b" / "picture.png",
        str(folder / "*.tif"),
        "s3://bucket/a/six.ome.zarr",
    ]
    assert find_slides([*asked, folder / "three.tif"]) == [
        folder / "b" / "picture.png",
        folder / "three.tif",
        "s3://bucket/a/six.ome.zarr",
    ]
    assert find_slides([folder / "four.ome.zarr"]) == [folder / "four.ome.zarr"]
    assert len(find_slides([str(folder / "*")])) == 5


@pytest.mark.realdata
def test_the_files_of_one_dicom_series_are_one_slide(data_dir: Path, tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        shutil.copy(
            data_dir / "slides" / "multiframe_camelyon_challenge_image.dcm", tmp_path / name
        )
    (tmp_path / "c.dcm").write_bytes(b"no DICOM at all")
    assert find_slides([tmp_path]) == [tmp_path / "a.dcm", tmp_path / "c.dcm"]
    (tmp_path / "c.dcm").rename(tmp_path / "c.txt")
    assert find_slides([tmp_path]) == [tmp_path]
    (tmp_path / "c.txt").rename(tmp_path / "c.dcm")
    assert find_slides([str(tmp_path / "*.dcm")]) == [tmp_path / "a.dcm", tmp_path / "c.dcm"]


def test_what_is_no_slide(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(SlideNotFoundError, match="no slide or folder 'gone'"):
        find_slides(["gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match=r"no slides in .*name pictures \(PNG, JPEG\) one by"):
        find_slides([tmp_path / "empty"])
    (folder / "one.ome.tiff").write_bytes(b"x")
    with pytest.raises(SettingsError, match="would both write to 'one'"):
        find_slides([folder])
