from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v04.image import ImageAttrs as ImageAttrsV04
from ome_zarr_models.v05.image import Image as ImageV05

from slideloom.errors import SettingsError, SlideFormatError
from slideloom.wsi import Mpp, Size, open_slide
from slideloom.wsi.geometry import Box
from slideloom.wsi.writing.ome_zarr import OmeVersion, write_ome_zarr
from slideloom.wsi.writing.pyramid import pyramid_tiles
from tests.makers.array_slide import array_slide
from tests.makers.pyramid_truth import noise, pyramid_truth

TILE = Size(width=240, height=240)
VERSIONS: list[OmeVersion] = ["0.5", "0.4"]
CASES = [
    ((1100, 1301, 3), "uint8"),
    ((700, 513, 4), "uint16"),
    ((513, 513, 3), "uint16"),
    ((1, 1, 3), "uint8"),
    ((1, 1100, 1), "uint8"),
    ((600, 500, 2), "float32"),
]


def array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    found = group[name]
    assert isinstance(found, zarr.Array)
    return found


def convert(
    folder: Path,
    pixels: np.ndarray[Any, Any],
    *,
    mpp: Mpp | None = None,
    version: OmeVersion = "0.5",
) -> zarr.Group:
    with array_slide(folder / "a.npy", pixels, tile=TILE, mpp=mpp) as (slide, _):
        write_ome_zarr(slide, folder / "a.ome.zarr", version=version, threads=2)
    return zarr.open_group(folder / "a.ome.zarr", mode="r")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_every_level_holds_the_truth(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str, version: OmeVersion
) -> None:
    pixels = noise(shape, dtype)
    group = convert(tmp_path, pixels, version=version)
    truth = pyramid_truth(pixels)
    assert sorted(group.array_keys()) == [str(level) for level in range(len(truth))]
    for level, expected in enumerate(truth):
        stored = array(group, str(level))
        assert stored.dtype == pixels.dtype
        np.testing.assert_array_equal(np.moveaxis(np.asarray(stored[...]), 0, 2), expected)


def test_a_chunk_of_rgb_has_all_three_channels(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    rgb = array(convert(tmp_path / "rgb", noise((20, 30, 3))), "0")
    assert rgb.chunks == (3, 512, 512)
    assert rgb.metadata.to_dict()["dimension_names"] == ("c", "y", "x")
    assert array(convert(tmp_path, noise((20, 30, 4))), "0").chunks == (1, 512, 512)


def test_version_05_is_valid(tmp_path: Path) -> None:
    group = convert(tmp_path, noise((700, 600, 3)), mpp=Mpp(x=0.25, y=0.5))
    assert group.metadata.zarr_format == 3
    ome = ImageV05.from_zarr(group).ome_attributes
    (multiscale,) = ome.multiscales
    assert [axis.name for axis in multiscale.axes] == ["c", "y", "x"]
    assert [axis.unit for axis in multiscale.axes] == [None, "micrometer", "micrometer"]
    scales = [data.coordinateTransformations[0].scale for data in multiscale.datasets]  # type: ignore[union-attr]
    assert scales == [[1.0, 0.5, 0.25], [1.0, 1.0, 0.5]]
    (node,) = Reader(parse_url(tmp_path / "a.ome.zarr"))()
    assert [level.shape for level in node.data] == [(3, 700, 600), (3, 350, 300)]
    assert node.metadata["channel_names"] == ["red", "green", "blue"]
    assert node.metadata["contrast_limits"] == [[0, 255]] * 3


def test_version_04_is_valid(tmp_path: Path) -> None:
    group = convert(tmp_path, noise((700, 600, 3)), mpp=Mpp(x=0.25, y=0.5), version="0.4")
    assert group.metadata.zarr_format == 2
    (multiscale,) = ImageAttrsV04.model_validate(dict(group.attrs)).multiscales
    assert multiscale.version == "0.4"
    assert (tmp_path / "a.ome.zarr" / "0" / "0" / "1" / "1").is_file()
    (node,) = Reader(parse_url(tmp_path / "a.ome.zarr"))()
    assert node.metadata["coordinateTransformations"][1][0]["scale"] == [1.0, 1.0, 0.5]


def test_without_mpp_there_is_no_unit(tmp_path: Path) -> None:
    attributes: Any = convert(tmp_path, noise((700, 600, 3))).attrs["ome"]
    (multiscale,) = attributes["multiscales"]
    assert multiscale["axes"][1] == {"name": "y", "type": "space"}
    scales = [data["coordinateTransformations"][0]["scale"] for data in multiscale["datasets"]]
    assert scales == [[1.0, 1.0, 1.0], [1.0, 2.0, 2.0]]


def test_windows_of_fluorescence_span_what_is_there(tmp_path: Path) -> None:
    pixels = np.zeros((10, 10, 4), np.uint16)
    pixels[..., 1] = 7
    pixels[3, 3, 2] = 900
    ome: Any = convert(tmp_path, pixels).attrs["ome"]
    channels = ome["omero"]["channels"]
    assert [channel["label"] for channel in channels] == ["a", "b", "c", "d"]
    assert len({channel["color"] for channel in channels}) == 4
    windows = [
        (item["window"]["start"], item["window"]["end"], item["window"]["max"]) for item in channels
    ]
    assert windows == [(0, 65535, 65535), (0, 65535, 65535), (0, 900, 65535), (0, 65535, 65535)]


def test_one_channel_is_shown_as_grey(tmp_path: Path) -> None:
    ome: Any = convert(tmp_path, noise((9, 9, 1))).attrs["ome"]
    assert [channel["color"] for channel in ome["omero"]["channels"]] == ["FFFFFF"]


@pytest.mark.parametrize("version", VERSIONS)
def test_slideloom_reads_it_back(tmp_path: Path, version: OmeVersion) -> None:
    pixels = noise((700, 600, 4), "uint16")
    convert(tmp_path, pixels, mpp=Mpp(x=0.25, y=0.25), version=version)
    with open_slide(tmp_path / "a.ome.zarr") as slide:
        assert (slide.channels, slide.dtype) == (("a", "b", "c", "d"), np.dtype(np.uint16))
        assert slide.mpp == Mpp(x=0.25, y=0.25)
        for level, expected in enumerate(pyramid_truth(pixels)):
            box = Box.of_size(slide.levels[level].size)
            np.testing.assert_array_equal(slide.read_raw(box, level=level), expected)


def test_progress_counts_every_tile(tmp_path: Path) -> None:
    steps: list[int] = []
    with array_slide(tmp_path / "a.npy", noise((1100, 700, 4)), tile=TILE) as (slide, _):
        write_ome_zarr(slide, tmp_path / "a.ome.zarr", advance=steps.append)
        assert sum(steps) == pyramid_tiles(slide.size) == 6 + 2 + 1


def test_what_is_cut_short_is_no_ome_zarr(tmp_path: Path) -> None:
    with (
        array_slide(tmp_path / "a.npy", noise((1100, 700, 3)), tile=TILE, broken=(4, 1)) as found,
        pytest.raises(SlideFormatError, match="damaged at tile row 4"),
    ):
        write_ome_zarr(found[0], tmp_path / "a.ome.zarr")
    assert dict(zarr.open_group(tmp_path / "a.ome.zarr", mode="r").attrs) == {}


def test_pixels_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="pixels of bool"):
        convert(tmp_path, np.zeros((2, 2, 1), bool))
    assert not (tmp_path / "a.ome.zarr").exists()
