from pathlib import Path

import numpy as np
import pytest

from slideloom.errors import SettingsError, SlideFormatError
from slideloom.wsi import Box, SlideOptions, open_slide
from slideloom.wsi.tolerant import BadTile, TolerantPixels
from tests.makers.arrays import ArrayReader


def reader(damaged: set[tuple[int, int, int]]) -> ArrayReader:
    pixels = np.random.default_rng(0).integers(10, 256, (50, 70, 3), dtype=np.uint8)
    return ArrayReader([pixels, pixels[::2, ::2].copy()], damaged=damaged)


def test_a_sound_slide_is_read_at_once() -> None:
    source = reader(set())
    tolerant = TolerantPixels(source)
    box = Box(x0=3, y0=5, x1=60, y1=44)
    assert np.array_equal(tolerant.read(box, 0), source.arrays[0][5:44, 3:60])
    assert len(source.calls) == 1
    assert tolerant.bad_tiles == ()


def test_damaged_tiles_are_blank_and_the_others_are_not() -> None:
    source = reader({(0, 20, 20), (0, 65, 49), (1, 0, 0)})
    tolerant = TolerantPixels(source)
    expected = source.arrays[0].copy()
    expected[16:32, 16:32] = expected[48:, 64:] = source.background
    assert np.array_equal(tolerant.read(Box(x0=0, y0=0, x1=70, y1=50), 0), expected)
    box = Box(x0=19, y0=18, x1=66, y1=50)
    assert np.array_equal(tolerant.read(box, 0), expected[18:50, 19:66])
    assert tolerant.bad_tiles == (BadTile(level=0, row=1, col=1), BadTile(level=0, row=3, col=4))


@pytest.mark.parametrize("name", ["tiff", "openslide"])
@pytest.mark.realdata
def test_the_user_chooses_what_a_damaged_tile_is(data_dir: Path, tmp_path: Path, name: str) -> None:
    sound = data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
    path = tmp_path / "a.svs"
    data = bytearray(sound.read_bytes())
    start = data.index(b"\xff\x4f\xff\x51", len(data) // 8)
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    with open_slide(sound, reader=name) as slide:
        whole = Box.of_size(slide.size)
        truth = slide.read(whole)
        tile = slide.levels[0].tile
    with open_slide(path, reader=name) as slide:
        with pytest.raises(SlideFormatError, match=r"'a\.svs'"):
            slide.read(whole)
        assert slide.bad_tiles == ()
    with open_slide(path, reader=name, on_bad_tile="blank") as slide:
        pixels = slide.read(whole)
        (bad,) = slide.bad_tiles
        again = slide.read(whole)
    assert np.array_equal(pixels, again)
    y, x = bad.row * tile.height, bad.col * tile.width
    part = (slice(y, y + tile.height), slice(x, x + tile.width))
    assert (pixels[part] == 255).all()
    truth[part] = pixels[part]
    assert np.array_equal(pixels, truth)


def test_a_policy_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match="'error' or 'blank', got 'skip'"):
        SlideOptions(on_bad_tile="skip")  # type: ignore[arg-type]
