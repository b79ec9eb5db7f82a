import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

from slideloom.errors import SettingsError, SlideFormatError
from slideloom.testing.slides import halve, write_slide
from slideloom.wsi import Mpp, Size, open_slide
from slideloom.wsi.zarr_view import SlideStore
from tests.makers.array_slide import array_slide

HEIGHT, WIDTH = 1100, 1301


def level(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    assert isinstance(array, zarr.Array)
    return array


def pixels_of(array: zarr.Array[Any], *window: slice) -> NDArray[Any]:
    return np.asarray(array[window or ...])


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, picture: NDArray[np.uint8]) -> Path:
    path = tmp_path_factory.mktemp("view") / "slide.tif"
    write_slide(path, picture, mpp=0.25, tile_px=240, quality=None)
    return path


@pytest.fixture
def group(path: Path) -> zarr.Group:
    with open_slide(path) as slide:
        return slide.as_zarr()


def test_there_is_one_array_for_each_level(group: zarr.Group) -> None:
    assert sorted(group.array_keys()) == ["0", "1", "2", "3"]
    assert list(group.group_keys()) == []
    assert group.attrs["channels"] == ["red", "green", "blue"]
    for number in range(4):
        array = level(group, str(number))
        side = 2**number
        assert array.shape == (-(-HEIGHT // side), -(-WIDTH // side), 3)
        assert array.dtype == np.uint8
        assert array.attrs["mpp"] == {"x": 0.25 * side, "y": 0.25 * side}
        assert array.attrs["downsample"] == side
        assert array.metadata.to_dict()["dimension_names"] == ("y", "x", "c")


def test_chunks_are_whole_tiles(group: zarr.Group) -> None:
    assert level(group, "0").chunks == (480, 480, 3)
    assert level(group, "0").nchunks_initialized == 9


def test_all_pixels_of_all_levels(group: zarr.Group, picture: NDArray[np.uint8]) -> None:
    for number in range(4):
        np.testing.assert_array_equal(pixels_of(level(group, str(number))), picture)
        picture = halve(picture)


def test_slices_across_chunks(group: zarr.Group, picture: NDArray[np.uint8]) -> None:
    for window in (
        (slice(470, 490), slice(950, 970)),
        (slice(0, None, 97), slice(3, None, 101)),
        (slice(-5, None), slice(-5, None)),
    ):
        np.testing.assert_array_equal(pixels_of(level(group, "0"), *window), picture[window])


def test_dask_takes_it(group: zarr.Group, path: Path, picture: NDArray[np.uint8]) -> None:
    array = da.from_zarr(level(group, "0"))
    assert array.chunks[0] == (480, 480, 140)
    assert array.name == da.from_zarr(level(open_slide(path).as_zarr(), "0")).name
    for scheduler in ("threads", "processes"):
        mean = array.mean(axis=(0, 1)).compute(scheduler=scheduler, num_workers=2)
        np.testing.assert_allclose(mean, picture.mean(axis=(0, 1)))


def test_it_pickles(group: zarr.Group, picture: NDArray[np.uint8]) -> None:
    copy = pickle.loads(pickle.dumps(group))
    assert copy.store == group.store
    np.testing.assert_array_equal(pixels_of(level(copy, "0")), picture)
    assert pickle.dumps(group).find(picture[:1, :10].tobytes()) == -1


def test_stored_channels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 2**16, (70, 601, 4), dtype=np.uint16)
    tile = Size(width=256, height=64)
    with array_slide(tmp_path / "a.npy", pixels, tile=tile, mpp=Mpp(x=0.5, y=0.75)) as (slide, _):
        group = slide.as_zarr(raw=True)
        array = level(group, "0")
        assert (array.shape, array.dtype) == (pixels.shape, pixels.dtype)
        assert array.chunks == (512, 512, 4)
        assert group.attrs["channels"] == ["a", "b", "c", "d"]
        assert array.attrs["mpp"] == {"x": 0.5, "y": 0.75}
        np.testing.assert_array_equal(pixels_of(array), pixels)


def test_each_tile_is_decoded_once_and_only_where_read(tmp_path: Path) -> None:
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    tile = Size(width=200, height=200)
    with array_slide(tmp_path / "a.npy", pixels, tile=tile, broken=(4, 4)) as (slide, decoded):
        array = level(slide.as_zarr(), "0")
        assert array.attrs["mpp"] is None
        assert not decoded
        assert pixels_of(array, slice(0, 800), slice(0, 400)).shape == (800, 400, 3)
        assert decoded == {(row, col): 1 for row in range(4) for col in range(2)}
        with pytest.raises(SlideFormatError, match="damaged at tile row 4"):
            pixels_of(array)


WRITES: list[Callable[[zarr.Group], object]] = [
    lambda group: level(group, "0").__setitem__(slice(None), 0),
    lambda group: level(group, "0").__setitem__(slice(0, 3), 0),
    lambda group: level(group, "0").resize((3, 3, 3)),
    lambda group: level(group, "0").attrs.update({"mpp": 1}),
    lambda group: group.attrs.update({"mpp": 1}),
    lambda group: group.create_array("4", shape=(1,), dtype="u1"),
    lambda group: group.__delitem__("0"),
    lambda group: group.store.with_read_only(False),
]


@pytest.mark.parametrize("write", WRITES)
def test_writing_is_refused(group: zarr.Group, write: Callable[[zarr.Group], object]) -> None:
    assert group.read_only
    assert level(group, "0").read_only
    with pytest.raises(SettingsError, match=r"zarr view of slide .*slide\.tif' is read-only"):
        write(group)


def test_the_store_gives_parts_of_a_key_and_nothing_for_others(path: Path) -> None:
    async def ask() -> None:
        with open_slide(path) as slide:
            store = SlideStore.of(slide, raw=False)
        prototype = default_buffer_prototype()
        for key in ("zarr.json", "1/c/0/1/0"):
            whole = await store.get(key, prototype)
            assert whole is not None
            data = whole.to_bytes()
            for request, part in (
                (RangeByteRequest(3, 9), data[3:9]),
                (OffsetByteRequest(5), data[5:]),
                (SuffixByteRequest(7), data[-7:]),
            ):
                (found,) = await store.get_partial_values(prototype, [(key, request)])
                assert found is not None
                assert found.to_bytes() == part
        for key in ("0/c/3/0/0", "0/c/0/0/1", "0/c/-1/0/0", "4/c/0/0/0", "0/c/0", "zarr"):
            assert await store.get(key, prototype) is None
            assert not await store.exists(key)
        assert await store.exists("0/c/2/2/0")
        assert sorted([name async for name in store.list_dir("0/")]) == ["c", "zarr.json"]
        assert len([key async for key in store.list()]) == 5 + 9 + 4 + 1 + 1
        assert store != SlideStore.of(open_slide(path, mpp=1), raw=False)

    asyncio.run(ask())
