import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi import Box, open_slide
from slideloom.wsi.readers.reader import NotServedError
from slideloom.wsi.readers.tiff.reader import TiffReader
from tests.makers.leica import write_leica
from tests.makers.pictures import smooth_picture
from tests.makers.tiff import Place, write_sparse

WriteTiff = Callable[..., Path]
Picture = NDArray[np.uint8]


def set_tag(path: Path, name: str, value: object) -> Path:
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[name].overwrite(value)
    return path


CODECS: dict[str, dict[str, Any]] = {
    "jpeg": {"compression": "jpeg"},
    "jpeg2000": {"compression": "jpeg2000"},
    "deflate": {"compression": "deflate"},
    "lzw": {"compression": "lzw"},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "webp": {"compression": "webp"},
    "jpegxl": {"compression": "jpegxl"},
}


@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_tile_is_named_and_the_others_are_read(write_tiff: WriteTiff, codec: str) -> None:
    path = write_tiff(**CODECS[codec])
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages.first.dataoffsets[7], tif.pages.first.databytecounts[7]
    expected = TiffReader(path).read(Box(x0=0, y0=0, x1=300, y1=64), 0)
    data = bytearray(path.read_bytes())
    data[start : start + count // 2] = b"\x80" * (count // 2)
    path.write_bytes(data)
    reader = TiffReader(path)
    for _ in range(2):
        with pytest.raises(SlideFormatError, match=r"damaged at level 0, tile row 1, col 2 \("):
            reader.read(Box(x0=0, y0=0, x1=300, y1=200), 0)
        assert np.array_equal(reader.read(Box(x0=0, y0=0, x1=300, y1=64), 0), expected)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp"])
def test_a_tile_of_another_size_is_damage(
    write_tiff: WriteTiff, picture: Picture, compression: str
) -> None:
    path = write_tiff(compression=compression)
    small = np.ascontiguousarray(picture[:32, :64])
    encoders: dict[str, Callable[..., Any]] = {
        "jpeg": imagecodecs.jpeg8_encode,
        "jpeg2000": imagecodecs.jpeg2k_encode,
        "webp": imagecodecs.webp_encode,
    }
    tile = bytes(encoders[compression](small))
    with path.open("ab") as file:
        place = file.tell()
        file.write(tile)
    with tifffile.TiffFile(path) as tif:
        offsets = [*tif.pages.first.dataoffsets]
        counts = [*tif.pages.first.databytecounts]
    offsets[7], counts[7] = place, len(tile)
    set_tag(path, "TileOffsets", offsets)
    set_tag(path, "TileByteCounts", counts)
    with pytest.raises(SlideFormatError, match=r"tile row 1, col 2 \(.*32, 64"):
        TiffReader(path).read(Box(x0=0, y0=0, x1=300, y1=200), 0)


def test_a_tile_too_large_to_be_true_is_not_decoded(write_tiff: WriteTiff) -> None:
    path = write_tiff(compression="deflate")
    set_tag(path, "TileWidth", 2**31)
    set_tag(path, "TileLength", 2**31)
    with pytest.raises(SlideFormatError, match=r"lists 20 tiles in a level, not 1;"):
        TiffReader(path)
    path = write_tiff("b.tif", tile=(256, 320), compression="deflate")
    set_tag(path, "TileWidth", 2**31)
    with pytest.raises(NotServedError, match=r"in one piece, .* bytes, of which 536870912"):
        TiffReader(path)


def test_a_tile_of_far_too_many_bytes_is_not_read(write_tiff: WriteTiff) -> None:
    path = write_tiff(compression="deflate")
    with path.open("ab") as file:
        file.write(bytes(2**21))
    with tifffile.TiffFile(path) as tif:
        counts = [*tif.pages.first.databytecounts]
    counts[0] = 2**21
    set_tag(path, "TileByteCounts", counts)
    with pytest.raises(SlideFormatError, match=r"col 0 \(2097152 bytes for 12288 bytes of pixels"):
        TiffReader(path).read(Box(x0=0, y0=0, x1=9, y1=9), 0)


def test_a_circle_of_directories_is_damage(write_pyramid: WriteTiff) -> None:
    path = write_pyramid()
    with tifffile.TiffFile(path) as tif:
        last = list(tif.pages)[-1]
        assert isinstance(last, tifffile.TiffPage)
        place, start = last.offset + 2 + 12 * len(last.tags), tif.pages.first.offset
    data = bytearray(path.read_bytes())
    data[place : place + 4] = struct.pack("<I", start)
    path.write_bytes(data)
    with pytest.raises(SlideFormatError, match="has a circle of directories"):
        TiffReader(path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_cut_file_is_damage(write_pyramid: WriteTiff, share: float) -> None:
    path = write_pyramid()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlideFormatError, match="is cut off"):
        TiffReader(path)


def test_what_is_no_file_is_left_to_others(tmp_path: Path) -> None:
    with pytest.raises(NotServedError, match="it is a folder"):
        TiffReader(tmp_path)
    with pytest.raises(NotServedError, match="it is called an OME-Zarr"):
        TiffReader("https://example.org/slide.ome.zarr")


def test_missing_planes_and_tiles_are_background(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    stack = np.random.default_rng(0).integers(1, 9999, (2, 200, 300), dtype=np.uint16)
    tifffile.imwrite(
        path,
        stack,
        photometric="minisblack",
        planarconfig="separate",
        tile=(64, 64),
        metadata=None,
    )
    with tifffile.TiffFile(path) as tif:
        counts = [*tif.pages.first.databytecounts]
    counts[6] = counts[7] = counts[20 + 7] = 0
    set_tag(path, "TileByteCounts", counts)
    stack[0, 64:128, 64:192] = 0
    stack[1, 64:128, 128:192] = 0
    pixels = TiffReader(path).read(Box(x0=0, y0=0, x1=300, y1=200), 0)
    assert np.array_equal(pixels, np.moveaxis(stack, 0, -1))


def test_a_slide_of_more_than_2_to_31_pixels(tmp_path: Path, picture: Picture) -> None:
    tile = np.ascontiguousarray(picture[:64, :64])
    last = 60_000 // 64
    places = {Place(row=last, col=last): tile, Place(row=500, col=700): tile[::-1]}
    path = write_sparse(tmp_path / "a.tif", side=60_000, tile=64, tiles=places)
    reader = TiffReader(path)
    (source,) = reader._levels[0].planes
    assert source.offsets.nbytes + source.counts.nbytes == 16 * (last + 1) ** 2
    corner = reader.read(Box(x0=59_900, y0=59_900, x1=60_000, y1=60_000), 0)
    start = last * 64 - 59_900
    assert (corner[:start] == 255).all()
    assert (corner[:, :start] == 255).all()
    assert np.array_equal(corner[start:, start:], tile[:32, :32])
    part = reader.read(Box(x0=700 * 64, y0=500 * 64, x1=701 * 64, y1=501 * 64), 0)
    assert np.array_equal(part, tile[::-1])


def test_tiles_too_large_for_openslide_are_not_handed_to_it(tmp_path: Path) -> None:
    path = write_leica(tmp_path / "a.scn", smooth_picture(410, 330))
    with tifffile.TiffFile(path, mode="r+") as tif:
        pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
        page = next(page for page in pages if page.is_tiled)
        page.tags["TileLength"].overwrite(2**30)
    for reader in (None, "openslide"):
        with pytest.raises(SlideFormatError, match=r"tiles of \d+ x 1073741824 pixels"):
            open_slide(path, reader=reader)
