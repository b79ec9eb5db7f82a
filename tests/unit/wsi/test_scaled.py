import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slideloom.wsi import scaled
from slideloom.wsi.geometry import Box, Size
from slideloom.wsi.readers.reader import level_downsample
from slideloom.wsi.scaled import best_level, read_level, read_scaled
from tests.makers.arrays import ArrayReader


@pytest.fixture
def reader() -> ArrayReader:
    base = np.random.default_rng(0).integers(0, 256, (90, 121, 3), dtype=np.uint8)
    means = base[:90, :120].reshape(45, 2, 60, 2, 3).mean(axis=(1, 3))
    return ArrayReader([base, means.astype(np.uint8)])


def test_a_box_beyond_the_level_is_filled_with_the_background(reader: ArrayReader) -> None:
    box = Box(x0=-3, y0=80, x1=10, y1=100)
    pixels = read_level(reader, box, level=0)
    assert np.array_equal(pixels[:10, 3:], reader.arrays[0][80:90, :10])
    assert (pixels[10:] == reader.background).all()
    assert (pixels[:, :3] == reader.background).all()


@pytest.mark.parametrize(
    "box",
    [Box(x0=5, y0=5, x1=5, y1=9), Box(x0=500, y0=0, x1=510, y1=4), Box(x0=0, y0=0, x1=0, y1=0)],
)
def test_nothing_is_read_for_a_box_without_pixels(reader: ArrayReader, box: Box) -> None:
    for pixels in (
        read_level(reader, box, level=0),
        read_scaled(reader, box, scale=1.0),
        read_scaled(reader, box, scale=1.7),
    ):
        assert pixels.shape == (*box.shape, 3)
        assert (pixels == reader.background).all()
    assert reader.calls == []


def test_the_coarsest_level_that_is_fine_enough_is_read(reader: ArrayReader) -> None:
    assert [level.downsample for level in reader.levels] == [1.0, 2.0]
    assert [best_level(reader.levels, scale) for scale in (0.5, 1, 1.99, 2, 2.5)] == [0, 0, 0, 1, 1]
    assert best_level(reader.levels, 2 - 1e-9) == 1
    read_scaled(reader, Box(x0=0, y0=0, x1=10, y1=10), scale=2.5)
    assert {level for _, level in reader.calls} == {1}


def test_a_level_of_just_that_scale_comes_unchanged(reader: ArrayReader) -> None:
    box = Box(x0=10, y0=3, x1=40, y1=45)
    assert np.array_equal(read_scaled(reader, box, scale=2.0), reader.arrays[1][3:45, 10:40])


def test_the_last_column_that_a_coarse_level_dropped_is_no_background(reader: ArrayReader) -> None:
    pixels = read_scaled(reader, Box(x0=58, y0=0, x1=62, y1=45), scale=2.0)
    assert np.array_equal(pixels[:, 2], reader.arrays[1][:, 59])
    assert (pixels[:, 3] == reader.background).all()


@given(
    scale=st.sampled_from([0.5, 1.0, 1.6, 2.0, 3.97, 11.3]),
    x0=st.integers(min_value=-5, max_value=60),
    y0=st.integers(min_value=-5, max_value=60),
    side=st.integers(min_value=1, max_value=30),
)
def test_every_window_is_a_piece_of_the_whole(scale: float, x0: int, y0: int, side: int) -> None:
    base = np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)
    reader = ArrayReader([base, base[::2, ::2]])
    whole = read_scaled(reader, Box(x0=-5, y0=-5, x1=95, y1=95), scale=scale)
    box = Box(x0=x0, y0=y0, x1=x0 + side, y1=y0 + side)
    piece = whole[box.slices_in(Box(x0=-5, y0=-5, x1=95, y1=95))]
    assert np.array_equal(read_scaled(reader, box, scale=scale), piece)


def test_bands_bound_memory_and_change_no_pixel(
    reader: ArrayReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(x0=0, y0=0, x1=76, y1=57)
    whole = read_scaled(reader, box, scale=1.6)
    reader.calls.clear()
    monkeypatch.setattr(scaled, "_BAND_PX", 1000)
    assert np.array_equal(read_scaled(reader, box, scale=1.6), whole)
    assert len(reader.calls) > 10
    assert max(call.width * call.height for call, _ in reader.calls) < 1000


def test_a_row_too_long_for_memory_is_read_in_pieces(
    reader: ArrayReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(x0=-1, y0=0, x1=13, y1=10)
    whole = read_scaled(reader, box, scale=10.0)
    reader.calls.clear()
    monkeypatch.setattr(scaled, "_BAND_PX", 200)
    assert np.array_equal(read_scaled(reader, box, scale=10.0), whole)
    assert max(read.width * read.height for read, _ in reader.calls) <= 200


@pytest.mark.parametrize(
    ("size", "expected"),
    [((500, 300), 2.0), ((501, 301), 2.0), ((250, 150), 4.0), ((1, 1), 801.0), ((300, 200), 3.17)],
)
def test_downsamples_are_whole_where_rounding_explains_the_size(
    size: tuple[int, int], expected: float
) -> None:
    base = Size(width=1001, height=601)
    got = level_downsample(base, Size(width=size[0], height=size[1]))
    assert got == pytest.approx(expected, rel=1e-2)
    assert (got == round(got)) == (expected == round(expected))
