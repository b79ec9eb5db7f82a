"""Written slides open in OpenSlide and tifffile with their size, levels, mpp and pixels."""

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.testing import Scene, make_scene, make_slide, render_scene, write_slide
from slideloom.testing.slides import halve
from slideloom.wsi.geometry import Size


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(size=Size(width=700, height=531), mpp=0.3, seed=1)


@pytest.fixture(scope="module")
def picture(scene: Scene) -> NDArray[np.uint8]:
    return render_scene(scene)


def read_level(slide: openslide.OpenSlide, level: int) -> NDArray[np.uint8]:
    size = slide.level_dimensions[level]
    return np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))


@pytest.mark.parametrize("quality", [85, None])
def test_openslide_sees_size_levels_and_mpp(
    tmp_path: Path, picture: NDArray[np.uint8], quality: int | None
) -> None:
    path = tmp_path / "a.tif"
    write_slide(path, picture, mpp=0.3, tile_px=128, quality=quality)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (700, 531)
        assert slide.level_dimensions == ((700, 531), (350, 266), (175, 133), (88, 67))
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.3, rel=1e-6)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(0.3, rel=1e-6)
        assert slide.properties["openslide.level[1].tile-width"] == "128"
        level = picture
        for number in range(slide.level_count):
            off = np.abs(read_level(slide, number).astype(int) - level)
            assert off.mean() < (9 if quality else 0.01)
            level = halve(level)


def test_tifffile_reads_the_levels(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.tif"
    write_slide(path, picture, mpp=0.3, quality=None)
    assert np.array_equal(tifffile.imread(path), picture)
    with tifffile.TiffFile(path) as tiff:
        pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
        assert [page.is_reduced for page in pages] == [False, True, True]
        assert [page.shape[:2] for page in pages] == [(531, 700), (266, 350), (133, 175)]
        assert all(page.is_tiled for page in pages)


def test_a_slide_smaller_than_a_tile_has_one_level(tmp_path: Path) -> None:
    path = tmp_path / "small.tif"
    write_slide(path, np.full((5, 9, 3), 200, dtype=np.uint8), mpp=0.5)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == ((9, 5),)


def test_make_slide_writes_the_picture_of_the_scene_that_it_returns(tmp_path: Path) -> None:
    size = Size(width=300, height=260)
    path = tmp_path / "a.tif"
    scene = make_slide(path, size=size, mpp=0.25, seed=5, large_objects=1, lossless=True)
    assert scene.class_counts[1] == 1
    assert np.array_equal(tifffile.imread(path), render_scene(scene))
    exact = path.stat().st_size
    make_slide(path, size=size, mpp=0.25, seed=5, large_objects=1)
    assert path.stat().st_size < exact / 2


def test_halving_means_two_by_two() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 10, 3), dtype=np.uint8)
    even = np.concatenate([pixels, pixels[-1:]]).astype(float)
    means = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    found = halve(pixels)
    assert found.shape == (4, 5, 3)
    assert np.abs(found - means).max() <= 0.5


@pytest.mark.parametrize(
    ("pixels", "settings"),
    [
        (np.zeros((8, 8), np.uint8), {"mpp": 0.5}),
        (np.zeros((8, 8, 4), np.uint8), {"mpp": 0.5}),
        (np.zeros((8, 8, 3), np.float32), {"mpp": 0.5}),
        (np.zeros((0, 8, 3), np.uint8), {"mpp": 0.5}),
        (np.zeros((8, 8, 3), np.uint8), {"mpp": 0.0}),
        (np.zeros((8, 8, 3), np.uint8), {"mpp": 0.5, "tile_px": 100}),
        (np.zeros((8, 8, 3), np.uint8), {"mpp": 0.5, "quality": 0}),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, pixels: NDArray[np.uint8], settings: dict[str, float]
) -> None:
    path = tmp_path / "a.tif"
    with pytest.raises(SettingsError, match="a slide"):
        write_slide(path, pixels, **settings)  # type: ignore[arg-type]
    assert not path.exists()
