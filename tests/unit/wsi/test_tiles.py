import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slideloom.wsi.geometry import Box
from slideloom.wsi.scaled import read_level
from slideloom.wsi.tiles import read_boxes, tiles_of
from tests.makers.arrays import ArrayReader

boxes = st.builds(
    lambda x, y, width, height: Box(x0=x, y0=y, x1=x + width, y1=y + height),
    st.integers(-30, 90),
    st.integers(-30, 70),
    st.integers(0, 60),
    st.integers(0, 60),
)


def reader() -> ArrayReader:
    return ArrayReader([np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)])


@given(st.lists(boxes, max_size=6))
def test_a_batch_is_its_reads_and_decodes_no_tile_twice(asked: list[Box]) -> None:
    source = reader()
    got = read_boxes(source, asked, level=0)
    read = [call for call, _ in source.calls]
    assert len(set(read)) == len(read)
    assert all(box.x0 % 16 == 0 and box.width <= 16 and box.height <= 16 for box in read)
    for box, pixels in zip(asked, got, strict=True):
        assert np.array_equal(pixels, read_level(source, box, level=0))


@given(boxes)
def test_tiles_cover_a_box_and_nothing_else(box: Box) -> None:
    level = reader().levels[0]
    inside = box.intersect(Box.of_size(level.size))
    count = np.zeros(level.size.shape, int)
    for tile in tiles_of(level, inside):
        assert not tile.box.intersect(inside).is_empty
        y, x = tile.box.slices_in(Box.of_size(level.size))
        count[y, x] += 1
    assert count.max(initial=0) <= 1
    assert count.sum() >= inside.width * inside.height
    assert inside.is_empty or count[inside.slices_in(Box.of_size(level.size))].all()
