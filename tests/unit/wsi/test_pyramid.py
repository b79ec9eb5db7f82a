from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from slideloom.errors import SettingsError
from slideloom.testing import slides
from slideloom.wsi import Size
from slideloom.wsi.writing.pyramid import (
    check_dtype,
    halve,
    pyramid_bands,
    pyramid_sizes,
    pyramid_tiles,
)
from tests.makers.array_slide import array_slide
from tests.makers.pyramid_truth import halved, noise, pyramid_truth

TILES = [
    Size(width=240, height=240),
    Size(width=512, height=512),
    Size(width=1301, height=7),
    Size(width=3000, height=16),
    Size(width=900, height=1150),
    Size(width=4096, height=4096),
]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int8", "int16", "int32"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 2, 1), (5, 4, 2), (6, 7, 3), (9, 9, 4)])
def test_halves_are_means_rounded_half_up(dtype: str, shape: tuple[int, int, int]) -> None:
    pixels = noise(shape, dtype)
    truth = halved(pixels)
    out = np.zeros_like(truth)
    halve(pixels, out)
    np.testing.assert_array_equal(out, truth)


def test_the_largest_values_do_not_overflow() -> None:
    for dtype in ("uint8", "uint32", "int32"):
        info = np.iinfo(dtype)
        for value in (info.min, info.max):
            out = np.zeros((1, 1, 1), dtype)
            halve(np.full((2, 2, 1), value, dtype), out)
            assert out.item() == value


def test_halves_of_floats_are_plain_means() -> None:
    pixels = noise((5, 6, 2), "float32")
    out = np.zeros((3, 3, 2), np.float32)
    halve(pixels, out)
    np.testing.assert_array_equal(out, halved(pixels))


def test_the_rule_is_that_of_the_slides_that_the_demo_makes() -> None:
    pixels = noise((33, 28, 3))
    out = np.zeros((17, 14, 3), np.uint8)
    halve(pixels, out)
    np.testing.assert_array_equal(out, slides.halve(pixels))


def test_levels_are_halved_until_both_sides_fit_one_tile() -> None:
    def sides(width: int, height: int) -> list[tuple[int, int]]:
        return [size.shape for size in pyramid_sizes(Size(width=width, height=height))]

    assert sides(1, 1) == [(1, 1)]
    assert sides(512, 512) == [(512, 512)]
    assert sides(513, 2) == [(2, 513), (1, 257)]
    assert sides(1, 2049) == [(2049, 1), (1025, 1), (513, 1), (257, 1)]
    assert pyramid_tiles(Size(width=513, height=2)) == 3
    assert pyramid_tiles(Size(width=1025, height=1025)) == 9 + 4 + 1


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("threads", [1, 3])
def test_bands_hold_all_levels_and_each_tile_is_decoded_once(
    tmp_path: Path, tile: Size, threads: int
) -> None:
    pixels = noise((1100, 1301, 2), "uint16")
    truth = pyramid_truth(pixels)
    found = [np.zeros_like(level) for level in truth]
    rows: list[list[int]] = [[] for _ in truth]
    with (
        array_slide(tmp_path / "a.npy", pixels, tile=tile) as (slide, decoded),
        ThreadPoolExecutor(threads) as pool,
    ):
        for band in pyramid_bands(slide, pool=pool):
            rows[band.level].append(band.row)
            assert band.pixels.flags.owndata
            found[band.level][band.row * 512 : (band.row + 1) * 512] = band.pixels
            last = (band.level, band.row)
    for level, pixels in zip(found, truth, strict=True):
        np.testing.assert_array_equal(level, pixels)
    assert rows == [[0, 1, 2], [0, 1], [0]]
    assert last == (0, 2)
    assert len(decoded) == -(-1100 // tile.height) * -(-1301 // tile.width)
    assert set(decoded.values()) == {1}


def test_no_more_is_read_than_the_present_band_needs(tmp_path: Path) -> None:
    pixels = np.zeros((5000, 300, 1), np.uint8)
    tile = Size(width=240, height=240)
    with (
        array_slide(tmp_path / "a.npy", pixels, tile=tile) as (slide, decoded),
        ThreadPoolExecutor(1) as pool,
    ):
        bands = (band for band in pyramid_bands(slide, pool=pool) if band.level == 0)
        for count in range(1, 4):
            assert next(bands).row == count - 1
            lowest = max(row for row, _ in decoded)
            # Tiles are read two rows at a time.
            assert lowest * 240 < count * 512 + 2 * 240


def test_pixels_without_a_mean_are_refused(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 1), bool)
    tile = Size(width=4, height=4)
    with (
        array_slide(tmp_path / "a.npy", pixels, tile=tile) as (slide, _),
        pytest.raises(SettingsError, match=r"pixels of bool cannot be written: convert"),
    ):
        check_dtype(slide)
