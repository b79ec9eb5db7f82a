from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from openslide import OpenSlide

from slideloom.errors import SettingsError, SlideFormatError
from slideloom.testing.render import render_scene
from slideloom.testing.scene import make_scene
from slideloom.wsi import Box, Mpp, Size, open_slide
from slideloom.wsi.writing import ome_tiff
from slideloom.wsi.writing.ome_tiff import COMPRESSIONS, TiffCompression, write_ome_tiff
from slideloom.wsi.writing.pyramid import pyramid_tiles
from tests.makers.array_slide import array_slide
from tests.makers.pyramid_truth import noise, pyramid_truth

TILE = Size(width=240, height=240)
OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
CASES = [
    ((1100, 1301, 3), "uint8"),
    ((700, 513, 4), "uint16"),
    ((513, 513, 3), "uint16"),
    ((1, 1, 3), "uint8"),
    ((1, 1, 1), "uint16"),
    ((1, 1100, 1), "uint8"),
    ((600, 500, 2), "float32"),
    ((530, 20, 2), "int16"),
    ((30, 20, 2), "float64"),
    ((30, 20, 1), "uint32"),
    ((30, 20, 1), "int8"),
]


def convert(
    folder: Path,
    pixels: NDArray[Any],
    compression: TiffCompression | None = None,
    *,
    mpp: Mpp | None = None,
) -> Path:
    path = folder / "a.ome.tiff"
    with array_slide(folder / "a.npy", pixels, tile=TILE, mpp=mpp) as (slide, decoded):
        write_ome_tiff(slide, path, compression=compression, threads=2)
        assert set(decoded.values()) == {1}
    assert sorted(item.name for item in folder.iterdir()) == ["a.npy", "a.ome.tiff"]
    return path


def stored_levels(path: Path) -> list[NDArray[Any]]:
    """`(y, x, c)` of each level, as tifffile reads them."""
    found = []
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        for level in series.levels:
            pixels = level.asarray().reshape(level.get_shape(squeeze=False))
            axes = level.get_axes(squeeze=False)
            moved = np.moveaxis(pixels, [axes.index("Y"), axes.index("X")], [0, 1])
            found.append(moved.reshape(*moved.shape[:2], -1))
    return found


@pytest.mark.parametrize("name", ["deflate", "zstd", "lzw"])
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_every_level_holds_the_truth(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str, name: str
) -> None:
    pixels = noise(shape, dtype)
    levels = stored_levels(convert(tmp_path, pixels, TiffCompression(name=name)))
    for stored, expected in zip(levels, pyramid_truth(pixels), strict=True):
        assert stored.dtype == pixels.dtype
        np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize(("shape", "dtype"), [((600, 513, 3), "uint8"), ((600, 513, 4), "uint16")])
def test_jpeg_2000_is_lossless_unless_a_quality_is_asked(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str
) -> None:
    pixels = noise(shape, dtype)
    levels = stored_levels(convert(tmp_path, pixels, TiffCompression(name="jpeg2000")))
    for stored, expected in zip(levels, pyramid_truth(pixels), strict=True):
        np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize(("name", "low", "high"), [("jpeg", 40, 95), ("jpeg2000", 30, 45)])
def test_lossy_pixels_are_near_and_quality_matters(
    tmp_path: Path, name: str, low: int, high: int
) -> None:
    size = Size(width=600, height=530)
    pixels = render_scene(make_scene(size=size, mpp=0.5, seed=1))
    bytes_of, error_of = {}, {}
    for quality in (low, high):
        path = convert(tmp_path, pixels, TiffCompression(name=name, quality=quality))
        bytes_of[quality] = path.stat().st_size
        finest = stored_levels(path)[0].astype(float)
        error_of[quality] = np.abs(finest - pixels).mean()
    assert 0 < error_of[high] < error_of[low] < 10
    assert error_of[high] < 2
    assert bytes_of[high] > 1.5 * bytes_of[low]


def test_the_file_is_tiled_and_coarser_levels_are_reduced_subifds(tmp_path: Path) -> None:
    path = convert(tmp_path, noise((1100, 1301, 3)), mpp=Mpp(x=0.25, y=0.5))
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert not tiff.is_bigtiff
        assert len(tiff.pages) == 1
        page = tiff.pages.first
        assert (page.subfiletype, len(page.subifds or ())) == (0, 2)
        for factor, level in enumerate(tiff.series[0].levels):
            found = level.keyframe
            assert (found.tilewidth, found.tilelength) == (512, 512)
            assert found.subfiletype == (1 if factor else 0)
            assert found.predictor == 2
            assert found.resolutionunit == 3
            per_cm = found.get_resolution(3)
            assert per_cm == pytest.approx((40_000 / 2**factor, 20_000 / 2**factor))


def test_ome_xml_of_rgb(tmp_path: Path) -> None:
    path = convert(tmp_path, noise((20, 30, 3)), mpp=Mpp(x=0.25, y=0.5))
    pixels = ome_pixels(path)
    assert (
        pixels.attrib.items()
        >= {
            "SizeX": "30",
            "SizeY": "20",
            "SizeC": "3",
            "Type": "uint8",
            "PhysicalSizeX": "0.25",
            "PhysicalSizeY": "0.5",
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeYUnit": "µm",
        }.items()
    )
    (channel,) = pixels.findall(f"{OME}Channel")
    assert channel.attrib["SamplesPerPixel"] == "3"


def test_ome_xml_of_fluorescence_names_channels_and_invents_no_size(tmp_path: Path) -> None:
    path = convert(tmp_path, noise((20, 30, 4), "uint16"))
    pixels = ome_pixels(path)
    assert "PhysicalSizeX" not in pixels.attrib
    names = [channel.attrib["Name"] for channel in pixels.findall(f"{OME}Channel")]
    assert names == ["a", "b", "c", "d"]
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 4
        assert tiff.pages.first.resolutionunit == 1


def ome_pixels(path: Path) -> ElementTree.Element:
    with tifffile.TiffFile(path) as tiff:
        found = ElementTree.fromstring(tiff.ome_metadata or "").find(f".//{OME}Pixels")
    assert found is not None
    return found


def test_large_files_are_big_tiffs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ome_tiff, "_BIG_BYTES", 20 * 30 * 3 * 4 // 3)
    with tifffile.TiffFile(convert(tmp_path, noise((20, 30, 3)))) as tiff:
        assert tiff.is_bigtiff
    with tifffile.TiffFile(convert(tmp_path, noise((20, 29, 3)))) as tiff:
        assert not tiff.is_bigtiff


@pytest.mark.parametrize("name", ["deflate", "zstd", "lzw", "jpeg"])
def test_openslide_reads_level_0(tmp_path: Path, name: str) -> None:
    size = Size(width=600, height=530)
    pixels = render_scene(make_scene(size=size, mpp=0.5, seed=1))
    path = convert(tmp_path, pixels, TiffCompression(name=name), mpp=Mpp(x=0.5, y=0.5))
    with OpenSlide(path) as slide:
        assert slide.level_count == 1
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        found = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]
    np.testing.assert_allclose(found.astype(int), stored_levels(path)[0].astype(int), atol=1)


@pytest.mark.parametrize("name", list(COMPRESSIONS))
def test_slideloom_reads_rgb_back(tmp_path: Path, name: str) -> None:
    path = convert(
        tmp_path, noise((700, 600, 3)), TiffCompression(name=name), mpp=Mpp(x=0.25, y=0.25)
    )
    with open_slide(path) as slide:
        assert slide.mpp == Mpp(x=0.25, y=0.25)
        assert [level.downsample for level in slide.levels] == [1, 2]
        for level, expected in enumerate(stored_levels(path)):
            found = slide.read(Box.of_size(slide.levels[level].size), level=level)
            np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)


@pytest.mark.parametrize("name", ["deflate", "zstd", "lzw", "jpeg2000"])
def test_slideloom_reads_fluorescence_back(tmp_path: Path, name: str) -> None:
    pixels = noise((700, 600, 4), "uint16")
    path = convert(tmp_path, pixels, TiffCompression(name=name), mpp=Mpp(x=0.25, y=0.25))
    with open_slide(path) as slide:
        assert (slide.channels, slide.dtype) == (("a", "b", "c", "d"), np.dtype(np.uint16))
        for level, expected in enumerate(pyramid_truth(pixels)):
            box = Box.of_size(slide.levels[level].size)
            np.testing.assert_array_equal(slide.read_raw(box, level=level), expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_progress_counts_every_tile(tmp_path: Path, channels: int) -> None:
    steps: list[int] = []
    pixels = noise((1100, 700, channels))
    with array_slide(tmp_path / "a.npy", pixels, tile=TILE) as (slide, _):
        write_ome_tiff(slide, tmp_path / "a.ome.tiff", advance=steps.append)
        assert sum(steps) == pyramid_tiles(slide.size) == 6 + 2 + 1


def test_a_damaged_slide_leaves_no_levels_behind(tmp_path: Path) -> None:
    with (
        array_slide(tmp_path / "a.npy", noise((1100, 700, 3)), tile=TILE, broken=(4, 1)) as found,
        pytest.raises(SlideFormatError, match="damaged at tile row 4"),
    ):
        write_ome_tiff(found[0], tmp_path / "a.ome.tiff")
    assert {item.name for item in tmp_path.iterdir()} <= {"a.npy", "a.ome.tiff"}


@pytest.mark.parametrize(
    ("name", "quality", "words"),
    [
        ("jxl", None, "there is no compression 'jxl': choose one of deflate, zstd"),
        ("deflate", 80, "deflate is lossless and takes no quality, got 80"),
        ("jpeg", 0, "a quality goes from 1 to 100, got 0"),
        ("jpeg2000", 101, "a quality goes from 1 to 100, got 101"),
    ],
)
def test_settings_that_make_no_sense(name: str, quality: int | None, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        TiffCompression(name=name, quality=quality)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("jpeg", (9, 9, 3), "uint16"),
        ("jpeg", (9, 9, 1), "uint8"),
        ("jpeg2000", (9, 9, 1), "float32"),
    ],
)
def test_pixels_that_a_codec_cannot_hold(
    tmp_path: Path, name: str, shape: tuple[int, int, int], dtype: str
) -> None:
    with pytest.raises(SettingsError, match=f"{name} cannot hold {shape[2]} channels of {dtype}"):
        convert(tmp_path, noise(shape, dtype), TiffCompression(name=name))
    assert [item.name for item in tmp_path.iterdir()] == ["a.npy"]
