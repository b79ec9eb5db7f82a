import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.errors import RegionError, SlideAccessError, SlideFormatError, SlideNotFoundError
from slideloom.wsi import Box, Slide, open_slide
from slideloom.wsi.readers.openslide_reader import OpenSlideReader
from slideloom.wsi.readers.reader import NotServedError
from slideloom.wsi.readers.tiff.reader import TiffReader
from slideloom.wsi.readers.tiff.vendor import vendor_of
from tests.makers.leica import write_leica
from tests.makers.philips import write_philips
from tests.makers.serving import Habits, Web
from tests.makers.tiff import Place, write_sparse
from tests.makers.ventana import write_ventana

WriteTiff = Callable[..., Path]
BOX = Box(x0=10, y0=10, x1=250, y1=150)


class _Kind(NamedTuple):
    """How a TIFF is written: by which fixture, and with which options of tifffile."""

    fixture: str
    options: dict[str, Any]


KINDS = {
    "jpeg": _Kind("write_pyramid", {"compression": "jpeg"}),
    "deflate": _Kind("write_pyramid", {"compression": "deflate", "predictor": True}),
    "subifds": _Kind("write_pyramid", {"subifds": True, "compression": "jpeg"}),
    "big": _Kind("write_tiff", {"bigtiff": True, "byteorder": ">"}),
    "strips": _Kind("write_tiff", {"tile": None, "rowsperstrip": 16, "compression": "lzw"}),
    "plain strips": _Kind("write_tiff", {"tile": None}),
    "planes": _Kind("write_tiff", {"planarconfig": "separate", "compression": "deflate"}),
    "aperio": _Kind("write_tiff", {"description": "Aperio x|MPP = 0.4", "compression": "jpeg"}),
}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with Web(tmp_path) as web:
        yield web


def _raw(slide: Slide | TiffReader, box: Box, *, level: int) -> NDArray[Any]:
    if isinstance(slide, Slide):
        return slide.read_raw(box, level=level)
    return slide.read(box, level)


def _equal(remote: Slide | TiffReader, local: Slide | TiffReader) -> None:
    """Whole levels, boxes across tiles, and all that is stated."""
    assert remote.levels == local.levels
    assert (remote.mpp, remote.channels, remote.dtype) == (local.mpp, local.channels, local.dtype)
    assert remote.fingerprint() == local.fingerprint()
    for level, item in enumerate(local.levels):
        width, height = item.size.width, item.size.height
        boxes = [
            Box.of_size(item.size),
            Box(x0=width // 3, y0=height // 4, x1=width // 3 + 20, y1=height // 4 + 9),
            Box(x0=width - 3, y0=height - 2, x1=width, y1=height),
        ]
        for box in boxes:
            np.testing.assert_array_equal(
                _raw(remote, box, level=level), _raw(local, box, level=level)
            )


@pytest.mark.parametrize("kind", KINDS)
def test_a_url_reads_as_the_file(kind: str, web: Web, request: pytest.FixtureRequest) -> None:
    chosen = KINDS[kind]
    path = request.getfixturevalue(chosen.fixture)("slide.tif", **chosen.options)
    with open_slide(f"{web.url}/slide.tif") as remote, open_slide(path) as local:
        assert remote.reader_name == "tiff"
        assert remote.name == local.name
        _equal(remote, local)


def test_channels_in_pages_of_their_own(web: Web, tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 9999, (3, 150, 170), dtype=np.uint16)
    path = tmp_path / "cells.ome.tiff"
    tifffile.imwrite(path, stack, tile=(64, 64), metadata={"axes": "CYX"}, photometric="minisblack")
    _equal(TiffReader(f"{web.url}/cells.ome.tiff"), TiffReader(path))


def test_a_huge_sparse_slide_costs_its_tables_only(web: Web, tmp_path: Path) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    path = write_sparse(
        tmp_path / "huge.tif", side=60_000, tile=256, tiles={Place(row=99, col=77): tile}
    )
    remote = TiffReader(f"{web.url}/huge.tif")
    asked = len(web.asked)
    box = Box(x0=77 * 256, y0=99 * 256, x1=78 * 256, y1=100 * 256)
    np.testing.assert_array_equal(remote.read(box, 0), tile)
    np.testing.assert_array_equal(remote.read(box, 0), TiffReader(path).read(box, 0))
    blank = remote.read(Box(x0=0, y0=0, x1=2048, y1=2048), 0)
    assert (blank == 255).all()
    assert len(web.asked) == asked + 2
    assert asked <= 6


def test_requests_are_few(web: Web, tmp_path: Path) -> None:
    """4096 x 4096 pixels in 256 tiles of 256: 64 of them in a region, neighbours together."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
    pixels = coarse.repeat(8, axis=0).repeat(8, axis=1)
    path = tmp_path / "large.svs"
    with tifffile.TiffWriter(path) as tif:
        options: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "metadata": None}
        tif.write(pixels, compression="jpeg", description="Aperio|MPP = 0.5", **options)
        tif.write(pixels[::4, ::4], compression="jpeg", subfiletype=1, **options)
    with open_slide(f"{web.url}/large.svs") as slide:
        assert slide.require_mpp() == 0.5
        opening = len(web.asked)
        assert opening <= 8
        region = Box(x0=1000, y0=1000, x1=3048, y1=3048)
        found = slide.read(region)
        # A row of tiles is one piece of the file.
        assert len(web.asked) - opening <= 9
        read = len(web.asked)
        np.testing.assert_array_equal(slide.read(region), found)
        # The tiles inside are asked for again: the cache holds those that the region cuts.
        assert len(web.asked) - read <= 9
    with open_slide(path) as local:
        np.testing.assert_array_equal(found, local.read(region))


def test_a_large_read_goes_in_batches(
    web: Web, write_tiff: WriteTiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff()
    whole = Box(x0=0, y0=0, x1=300, y1=200)
    remote = TiffReader(f"{web.url}/slide.tif")
    monkeypatch.setattr(type(remote._file), "batch_bytes", 3 * 64 * 64 * 3)
    asked = len(web.asked)
    np.testing.assert_array_equal(remote.read(whole, 0), TiffReader(path).read(whole, 0))
    # 20 tiles, three at a time.
    assert len(web.asked) - asked == 7


def test_threads_and_copies_read_urls(web: Web, write_pyramid: WriteTiff) -> None:
    path = write_pyramid("slide.tif", compression="jpeg")
    with open_slide(path) as local:
        expected = local.read(BOX)
    slide = open_slide(f"{web.url}/slide.tif")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: slide.read(BOX), range(16)))
    again = pickle.loads(pickle.dumps(slide))
    found.append(again.read(BOX))
    for pixels in found:
        np.testing.assert_array_equal(pixels, expected)
    slide.close()
    with pytest.raises(RegionError, match="is closed"):
        slide.read(BOX)
    np.testing.assert_array_equal(again.read(BOX), expected)


def test_damage_behind_a_url(web: Web, write_tiff: WriteTiff, tmp_path: Path) -> None:
    path = write_tiff(compression="jpeg")
    with tifffile.TiffFile(path) as tif:
        place = tif.pages.first.dataoffsets[2]
    data = bytearray(path.read_bytes())
    data[place : place + 40] = bytes(40)
    (tmp_path / "damaged.tif").write_bytes(data)
    (tmp_path / "cut.tif").write_bytes(path.read_bytes()[:-3000])
    url = f"{web.url}/damaged.tif"
    with (
        open_slide(url) as slide,
        pytest.raises(SlideFormatError, match=r"tif' is damaged at level 0, tile row 0, col 2"),
    ):
        slide.read(BOX)
    with open_slide(url, on_bad_tile="blank") as slide:
        found = slide.read(BOX)
        assert [(tile.row, tile.col) for tile in slide.bad_tiles] == [(0, 2)]
    with open_slide(tmp_path / "damaged.tif", on_bad_tile="blank") as local:
        np.testing.assert_array_equal(found, local.read(BOX))
    with pytest.raises(SlideFormatError, match=r"cut.tif' is cut off"):
        open_slide(f"{web.url}/cut.tif")


@pytest.mark.parametrize("tags", [True, False])
def test_a_slide_that_is_replaced_is_no_damaged_tile(
    tmp_path: Path, write_tiff: WriteTiff, tags: bool
) -> None:
    path = write_tiff(compression="jpeg")
    with Web(tmp_path, Habits(tags=tags)) as web:
        slide = open_slide(f"{web.url}/slide.tif", on_bad_tile="blank")
        slide.levels  # noqa: B018 - opens it
        path.write_bytes(bytes(path.stat().st_size + 1))
        with pytest.raises(SlideAccessError, match="changed while it was read"):
            slide.read(BOX)


def test_what_is_not_there(web: Web) -> None:
    with pytest.raises(SlideNotFoundError, match=r"there is no slide at .*neither a file nor"):
        open_slide(f"{web.url}/nothing.svs")


def test_a_server_without_ranges_sends_the_file_whole(
    tmp_path: Path, write_tiff: WriteTiff
) -> None:
    path = write_tiff(compression="jpeg")
    with Web(tmp_path, Habits(ranges=False)) as web:
        with open_slide(f"{web.url}/slide.tif") as slide, open_slide(path) as local:
            _equal(slide, local)
        assert web.asked.count("GET /slide.tif") == 1


PICTURE = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
VENDORS: dict[str, WriteTiff] = {
    "philips": write_philips,
    "leica": partial(write_leica, slide_px=(2048, 2048)),
    "ventana": write_ventana,
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendor_is_known_as_openslide_knows_it(vendor: str, tmp_path: Path) -> None:
    from tests.makers.jpeg_tiff import TILE_PX

    side = 3 * (TILE_PX - 8) + 8 if vendor == "ventana" else 512
    path = VENDORS[vendor](tmp_path / "a.tif", PICTURE[:side, :side])
    with tifffile.TiffFile(path) as tif:
        assert vendor_of(tif) == openslide.OpenSlide.detect_format(path) == vendor


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "vendor"),
    [("CMU-1-Small-Region.svs", "aperio"), ("test3-DAPI-2-387.ndpi", "hamamatsu")],
)
def test_real_vendors(data_dir: Path, name: str, vendor: str) -> None:
    path = data_dir / "slides" / name
    with tifffile.TiffFile(path) as tif:
        assert vendor_of(tif) == openslide.OpenSlide.detect_format(path) == vendor


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_what_openslide_reads_is_fetched_once(tmp_path: Path, web: Web, copies: Path) -> None:
    path = write_philips(tmp_path / "a.tiff", PICTURE[:512, :512])
    url = f"{web.url}/a.tiff"
    with open_slide(url) as slide, open_slide(path) as local:
        assert slide.reader_name == "openslide"
        _equal(slide, local)
        assert slide.properties == local.properties
        assert [file.name for file in copies.glob("*/*")] == ["a.tiff"]
        with ThreadPoolExecutor(4) as threads:
            others = list(threads.map(open_slide, [url] * 4))
        assert len(list(copies.iterdir())) == 1
        assert web.asked.count("GET /a.tiff") == 1
    np.testing.assert_array_equal(others[0].read(BOX), others[3].read(BOX))
    for other in others:
        assert list(copies.iterdir())
        other.close()
    assert not list(copies.iterdir())


def test_a_picture_is_fetched(tmp_path: Path, web: Web, copies: Path) -> None:
    from PIL import Image

    Image.fromarray(PICTURE[:300, :300]).save(tmp_path / "a.png")
    with open_slide(f"{web.url}/a.png") as slide, open_slide(tmp_path / "a.png") as local:
        _equal(slide, local)
    assert not list(copies.iterdir())


def test_what_is_no_slide_is_not_fetched(tmp_path: Path, web: Web) -> None:
    (tmp_path / "notes.bin").write_bytes(b"just notes " * 99_999)
    with pytest.raises(SlideFormatError, match=r"'notes.bin' is not a slide that slideloom opens"):
        open_slide(f"{web.url}/notes.bin")
    assert "GET /notes.bin" not in web.asked


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_is_asked_for_a_whole_file_once(
    tmp_path: Path, copies: Path, ranges: bool
) -> None:
    write_philips(tmp_path / "a.tiff", PICTURE[:512, :512])
    with Web(tmp_path, Habits(ranges=ranges)) as web:
        with open_slide(f"{web.url}/a.tiff") as slide:
            assert slide.reader_name == "openslide"
        assert web.asked.count("GET /a.tiff") == 1
    assert not list(copies.iterdir())


def test_slides_of_several_files_are_refused(tmp_path: Path, web: Web) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff" + bytes(999))
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM" + bytes(999))
    (tmp_path / "c").write_bytes(bytes(128) + b"DICM" + bytes(999))
    for name in "a.mrxs", "b.dcm", "c":
        with pytest.raises(SlideFormatError, match=r"lies in several files .* copy its whole"):
            open_slide(f"{web.url}/{name}")


def test_a_disk_without_room(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    write_philips(tmp_path / "a.tiff", PICTURE[:512, :512])
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=2**28))
    with pytest.raises(SlideAccessError, match=r"fetched whole, .* set TMPDIR to a folder"):
        open_slide(f"{web.url}/a.tiff")


def test_a_named_reader_and_a_url(tmp_path: Path, web: Web, write_tiff: WriteTiff) -> None:
    write_tiff(compression="jpeg")
    with open_slide(f"{web.url}/slide.tif", reader="openslide") as slide:
        assert slide.size.width == 300
    with pytest.raises(NotServedError, match="there is no file"):
        OpenSlideReader(f"{web.url}/nothing.tif")
