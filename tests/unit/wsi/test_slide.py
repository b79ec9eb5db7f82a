import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from slideloom.errors import MissingMppError, RegionError, SettingsError
from slideloom.wsi import Box, Mpp, Size, Slide, open_slide
from slideloom.wsi.fingerprint import hash_files
from slideloom.wsi.lazy import chunk_of_tiles
from slideloom.wsi.scaled import best_level, read_scaled
from slideloom.wsi.source import parse_source

WriteTiff = Callable[..., Path]
Picture = NDArray[np.uint8]
CM = {"resolutionunit": "CENTIMETER"}


def compute(array: da.Array, scheduler: str) -> Picture:
    pixels: Picture = array.compute(scheduler=scheduler, num_workers=2)
    return pixels


@pytest.fixture
def path(write_tiff: WriteTiff) -> Path:
    return write_tiff(resolution=(20_000, 20_000), **CM)


def test_what_a_slide_says_of_itself(path: Path) -> None:
    with open_slide(path) as slide:
        assert (slide.name, slide.path, slide.reader_name) == ("slide", path, "tiff")
        assert slide.size == Size(width=300, height=200)
        assert slide.levels[0].tile == Size(width=64, height=64)
        assert slide.mpp == Mpp(x=0.5, y=0.5)
        assert slide.require_mpp() == 0.5
        assert (slide.bounds_offset.x, slide.bounds_offset.y) == (0, 0)
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.associated_images == ()


def test_a_given_mpp_replaces_the_stated_one(path: Path) -> None:
    with open_slide(str(path), mpp=0.25) as slide:
        assert slide.mpp == Mpp(x=0.25, y=0.25)
        assert slide.size_at_mpp(0.5) == Size(width=150, height=100)


def test_a_slide_without_mpp_is_an_error_that_names_the_option(write_tiff: WriteTiff) -> None:
    with open_slide(write_tiff("S12.svs")) as slide:
        assert slide.mpp is None
        for ask in (slide.require_mpp, lambda: slide.size_at_mpp(0.5)):
            with pytest.raises(MissingMppError, match=r"'S12\.svs' states no mpp.*pass --mpp"):
                ask()
        assert slide.thumbnail(50).shape == (34, 50, 3)


def test_pixels_that_are_not_square_are_an_error(write_tiff: WriteTiff) -> None:
    with (
        open_slide(write_tiff(resolution=(20_000, 40_000), **CM)) as slide,
        pytest.raises(MissingMppError, match=r"0\.5 um/px along x but 0\.25 along y.*--mpp"),
    ):
        slide.require_mpp()
    with open_slide(write_tiff(resolution=(20_000, 20_100), **CM)) as slide:
        assert slide.require_mpp() == pytest.approx(0.49875, abs=1e-4)


@pytest.mark.parametrize(
    ("mpp", "size"), [(0.5, (300, 200)), (1.0, (150, 100)), (0.7, (215, 143)), (1e4, (1, 1))]
)
def test_the_size_at_an_mpp_covers_the_last_pixel(
    path: Path, mpp: float, size: tuple[int, int]
) -> None:
    with open_slide(path) as slide:
        assert slide.size_at_mpp(mpp) == Size(width=size[0], height=size[1])


def test_reading_by_level_and_by_mpp(path: Path, picture: Picture) -> None:
    with open_slide(path) as slide:
        box = Box(x0=10, y0=20, x1=110, y1=70)
        assert np.array_equal(slide.read(box), picture[20:70, 10:110])
        assert np.array_equal(slide.read_at_mpp(box, mpp=0.5), picture[20:70, 10:110])
        means = picture[40:60, 20:60].reshape(10, 2, 20, 2, 3).mean(axis=(1, 3))
        got = slide.read_at_mpp(Box(x0=10, y0=20, x1=30, y1=30), mpp=1.0)
        assert np.abs(got - means).max() <= 0.5
        assert slide.read(Box(x0=-5, y0=190, x1=5, y1=210))[15, 7].tolist() == [255, 255, 255]


@pytest.mark.parametrize("level", [-1, 1, 99])
def test_a_level_that_is_not_there(path: Path, level: int) -> None:
    box = Box(x0=0, y0=0, x1=1, y1=1)
    with open_slide(path) as slide:
        with pytest.raises(RegionError, match=f"no level {level}: choose one of 0 to 0"):
            slide.read(box, level=level)
        with pytest.raises(RegionError, match="no level"):
            slide.as_dask(level=level)


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), float("inf")])
def test_an_mpp_that_makes_no_sense(path: Path, mpp: float) -> None:
    with open_slide(path) as slide, pytest.raises(RegionError, match="above 0"):
        slide.size_at_mpp(mpp)
    with pytest.raises(SettingsError, match="above 0"):
        open_slide(path, mpp=mpp)


def test_a_thumbnail_never_reads_the_finest_of_several_levels(
    write_pyramid: WriteTiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slide(write_pyramid()) as slide:
        reader = slide._pixels.reader
        read = reader.read
        seen: list[int] = []

        def note(box: Box, level: int) -> Picture:
            seen.append(level)
            return read(box, level)

        monkeypatch.setattr(reader, "read", note)
        assert slide.thumbnail().shape == (100, 150, 3)
        assert slide.thumbnail(150).shape == (100, 150, 3)
        assert slide.thumbnail(40).shape == (27, 40, 3)
        assert set(seen) == {1, 2}
        assert slide.thumbnail(250, sharp=True).shape == (167, 250, 3)
        assert seen[-1] == 0
        with pytest.raises(RegionError, match="max_px >= 1"):
            slide.thumbnail(0)


def test_a_thumbnail_of_the_only_level(path: Path) -> None:
    with open_slide(path) as slide:
        assert slide.thumbnail(150).shape == (100, 150, 3)
        assert slide.thumbnail().shape == (200, 300, 3)


def test_a_batch_is_its_reads(path: Path) -> None:
    boxes = [Box(x0=x, y0=x // 2, x1=x + 90, y1=x + 70) for x in range(-40, 300, 37)]
    with open_slide(path) as slide:
        for box, pixels in zip(boxes, slide.read_batch(boxes), strict=True):
            assert np.array_equal(pixels, slide.read(box))
        with pytest.raises(RegionError, match="no level 9"):
            slide.read_batch(boxes, level=9)


def test_a_folder_is_called_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "1.2.840").mkdir()
    assert Slide(tmp_path / "1.2.840").name == "1.2.840"


def test_a_file_url_is_a_path() -> None:
    assert parse_source("file:///a/CASE%201.svs") == Path("/a/CASE 1.svs")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (Path("a/CASE-1.svs"), "CASE-1"),
        (Path("CASE-1.ome.tiff"), "CASE-1"),
        (Path("CASE-1.v2.ndpi"), "CASE-1.v2"),
        (Path("a/CASE-1.ome.zarr"), "CASE-1"),
        ("s3://bucket/b/CASE-1.zarr.zip", "CASE-1"),
        ("https://host/b/CASE-1.ome.zarr", "CASE-1"),
        (Path("ome.zarr"), "ome"),
    ],
)
def test_a_slide_is_called_as_its_file(path: Path | str, name: str) -> None:
    assert Slide(path).name == name


def test_a_slide_pickles_closed_and_opens_where_it_arrives(path: Path) -> None:
    box = Box(x0=0, y0=0, x1=30, y1=30)
    with open_slide(path, mpp=0.3, reader="openslide") as slide:
        copy: Slide = pickle.loads(pickle.dumps(slide))
        assert copy._opened is None
        assert np.array_equal(copy.read(box), slide.read(box))
        assert (copy.reader_name, copy.mpp) == ("openslide", Mpp(x=0.3, y=0.3))
        copy.close()


def test_threads_read_the_same_pixels(path: Path, picture: Picture) -> None:
    boxes = [Box(x0=x, y0=y, x1=x + 90, y1=y + 70) for x in range(0, 200, 9) for y in (0, 60, 120)]
    with open_slide(path) as slide, ThreadPoolExecutor(8) as pool:
        for box, pixels in zip(boxes, pool.map(slide.read, boxes), strict=True):
            inside = picture[box.y0 : box.y1, box.x0 : box.x1]
            assert np.array_equal(pixels[: inside.shape[0]], inside)


def test_a_closed_slide_says_so(path: Path) -> None:
    slide = open_slide(path)
    slide.close()
    slide.close()
    with pytest.raises(RegionError, match="is closed: open it again"):
        slide.read(Box(x0=0, y0=0, x1=1, y1=1))


def test_an_unknown_associated_image(path: Path) -> None:
    with open_slide(path) as slide, pytest.raises(RegionError, match="no associated image 'label'"):
        slide.associated_image("label")


def test_the_fingerprint_sees_head_middle_and_tail(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.svs", set()
    clean = bytearray(5 * 2**20)
    for place in (None, 0, len(clean) // 2, len(clean) - 1):
        data = bytearray(clean)
        if place is not None:
            data[place] = 1
        path.write_bytes(data)
        seen.add(hash_files([path]))
    path.write_bytes(clean + b"\0")
    seen |= {hash_files([path]), hash_files([path], extra="b"), hash_files([path, path])}
    assert len(seen) == 7
    assert all(len(item) == 64 for item in seen)


def test_slides_of_other_content_have_other_fingerprints(write_tiff: WriteTiff) -> None:
    first, second = (
        Slide(write_tiff(name, compression=codec)) for name, codec in (("a", None), ("b", "lzw"))
    )
    assert first.fingerprint() != second.fingerprint()
    assert first.fingerprint() == Slide(first.path).fingerprint()


def test_as_dask_is_lazy_and_outlives_the_slide(write_pyramid: WriteTiff, picture: Picture) -> None:
    with open_slide(write_pyramid(), mpp=0.5) as slide:
        base = slide.as_dask(chunk_px=130)
        coarse = slide.as_dask(level=1, chunk_px=64)
        scaled = slide.as_dask(mpp=0.8, chunk_px=50)
        again = slide.as_dask(chunk_px=130)
        expected = slide.read_at_mpp(Box.of_size(slide.size_at_mpp(0.8)), mpp=0.8)
    assert base.chunks == ((128, 72), (128, 128, 44), (3,))
    assert base.dtype == np.uint8
    assert base.name == again.name != coarse.name
    assert np.array_equal(compute(base, "threads"), picture)
    assert np.array_equal(compute(coarse, "threads"), picture[::2, ::2])
    assert np.array_equal(compute(scaled, "threads"), expected)
    assert np.array_equal(compute(base[190:, 5:9], "sync"), picture[190:, 5:9])


def test_as_dask_pickles(path: Path, picture: Picture) -> None:
    array: da.Array = pickle.loads(pickle.dumps(open_slide(path).as_dask(chunk_px=100)))
    assert np.array_equal(compute(array, "sync"), picture)


@pytest.mark.slow
def test_as_dask_computes_in_spawned_processes(path: Path, picture: Picture) -> None:
    array = open_slide(path).as_dask(chunk_px=64)
    got = compute(array, "processes")
    assert np.array_equal(got, picture)


def test_as_dask_takes_a_level_or_an_mpp(path: Path) -> None:
    with open_slide(path) as slide, pytest.raises(RegionError, match="a level or an mpp"):
        slide.as_dask(level=0, mpp=0.5)


def test_a_strip_across_the_slide_is_cut_into_chunks() -> None:
    assert chunk_of_tiles(Size(width=9000, height=8), 2048) == Size(width=2048, height=2048)
    assert chunk_of_tiles(Size(width=240, height=3000), 2048) == Size(width=1920, height=3000)


class LevelZero:
    """A slide's reader that has lost its coarse levels."""

    def __init__(self, slide: Slide) -> None:
        self.levels, self._reader = slide.levels[:1], slide._pixels.rgb

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


@pytest.mark.realdata
def test_a_real_pyramid_shows_the_same_place_at_every_mpp(data_dir: Path) -> None:
    with open_slide(data_dir / "slides" / "test3-DAPI-2-387.ndpi") as slide:
        mpp = slide.require_mpp()
        for scale in (3.97, 4.0, 4.03):
            assert best_level(slide.levels, scale) == (1 if scale < 4 else 2)
            box = Box(x0=100, y0=300, x1=200, y1=400)
            got = slide.read_at_mpp(box, mpp=mpp * scale)[..., 2]
            fine = read_scaled(LevelZero(slide), box.grow(1), scale=scale)[..., 2]
            agreement = {
                (dy, dx): np.corrcoef(got.ravel(), fine[dy:, dx:][:100, :100].ravel())[0, 1]
                for dy in range(3)
                for dx in range(3)
            }
            assert max(agreement, key=lambda shift: agreement[shift]) == (1, 1)
            assert agreement[1, 1] > 0.98


@pytest.mark.slow
def test_as_dask_on_a_cluster_of_processes(path: Path, picture: Picture) -> None:
    with (
        open_slide(path) as slide,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        lazy = slide.as_dask(chunk_px=64)
        inverted = client.compute(da.map_blocks(np.invert, lazy, dtype=np.uint8)).result()
        assert np.array_equal(inverted, np.invert(picture))
        mean = client.compute(lazy.rechunk((50, 70, 3)).mean(axis=(0, 1))).result()
        assert np.allclose(mean, picture.mean(axis=(0, 1)))
        box = Box(x0=30, y0=20, x1=90, y1=70)
        assert np.array_equal(client.submit(slide.read, box).result(), slide.read(box))


def test_as_dask_does_what_a_dask_user_expects(path: Path, picture: Picture) -> None:
    with open_slide(path) as slide:
        lazy = slide.as_dask(chunk_px=64)
    assert np.array_equal(compute(lazy[::7, ::5, 1], "threads"), picture[::7, ::5, 1])
    assert compute(da.coarsen(np.max, lazy, {0: 8, 1: 10}), "threads").shape == (25, 30, 3)
    assert np.allclose(compute(lazy.mean(axis=(0, 1)), "threads"), picture.mean(axis=(0, 1)))
    assert np.array_equal(compute(lazy.rechunk((50, 70, 3)), "threads"), picture)
    grown = lazy.map_overlap(np.copy, depth=(8, 8, 0), boundary="reflect", dtype=np.uint8)
    assert np.array_equal(compute(grown, "threads"), picture)


def test_as_dask_of_stored_channels(path: Path, picture: Picture) -> None:
    with open_slide(path) as slide:
        raw = slide.as_dask(chunk_px=64, raw=True)
        assert raw.name != slide.as_dask(chunk_px=64).name
        with pytest.raises(RegionError, match="a level or an mpp"):
            slide.as_dask(mpp=0.5, raw=True)
    assert np.array_equal(compute(raw, "threads"), picture)
