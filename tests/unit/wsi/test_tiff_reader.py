import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.wsi import Box, Mpp, Slide, open_slide
from slideloom.wsi.readers.reader import NotServedError
from slideloom.wsi.readers.tiff.reader import TiffReader
from tests.makers.openslide_twin import MAX_DIFFERENCE, difference

WriteTiff = Callable[..., Path]
Picture = NDArray[np.uint8]


@pytest.mark.parametrize("subifds", [False, True])
def test_pyramids_in_pages_and_in_subifds(
    write_pyramid: WriteTiff, picture: Picture, *, subifds: bool
) -> None:
    with open_slide(write_pyramid(subifds=subifds)) as slide:
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        for level, step in enumerate((1, 2, 4)):
            box = Box.of_size(slide.levels[level].size)
            assert np.array_equal(slide.read(box, level=level), picture[::step, ::step])


def test_pages_that_are_no_smaller_copies_are_no_levels(tmp_path: Path, picture: Picture) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for pixels in (picture, picture[:90], picture[:100, :150], picture[::2, ::2]):
            reduced = int(pixels.shape[0] != 90)
            tif.write(
                np.ascontiguousarray(pixels),
                tile=(64, 64),
                photometric="rgb",
                metadata=None,
                subfiletype=reduced if pixels is not picture else 0,
            )
    with open_slide(path) as slide:
        assert [level.size.width for level in slide.levels] == [300, 150, 150]


def test_a_tile_that_was_never_scanned_is_white(write_tiff: WriteTiff, picture: Picture) -> None:
    path = write_tiff()
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages.first
        counts, offsets = list(page.databytecounts), list(page.dataoffsets)
        counts[6] = offsets[6] = 0
        page.tags["TileByteCounts"].overwrite(counts)
        page.tags["TileOffsets"].overwrite(offsets)
    expected = picture.copy()
    expected[64:128, 64:128] = 255
    for reader in ("tiff", "openslide"):
        with open_slide(path, reader=reader) as slide:
            assert np.array_equal(slide.read(Box.of_size(slide.size)), expected)


def test_tile_lists_of_the_wrong_length_are_damage(write_tiff: WriteTiff) -> None:
    path = write_tiff()
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages.first.tags["TileByteCounts"]
        place = tag.offset + 4
    data = bytearray(path.read_bytes())
    data[place : place + 4] = struct.pack("<I", 7)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"lists 20 tiles|directories that make no sense"):
        open_slide(path)


def test_no_tiff_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x89PNG" * 9)
    with pytest.raises(NotServedError, match="it is no TIFF"):
        TiffReader(tmp_path / "a")


@pytest.fixture(params=["CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def real(request: pytest.FixtureRequest, data_dir: Path) -> Path:
    return data_dir / "slides" / str(request.param)


@pytest.mark.realdata
@pytest.mark.parametrize(("x", "y"), [(900, 900), (511, 997), (1700, 2400)])
def test_real_pixels_are_those_of_openslide(real: Path, x: int, y: int) -> None:
    assert difference(real, Box(x0=x, y0=y, x1=x + 700, y1=y + 500)) <= MAX_DIFFERENCE


@pytest.mark.realdata
def test_a_real_coarse_level_is_that_of_openslide(data_dir: Path) -> None:
    path = data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
    # At the origin only: elsewhere OpenSlide interpolates, for it takes the factor as 2.0005.
    assert difference(path, Box(x0=0, y0=0, x1=1500, y1=1500), level=1) <= MAX_DIFFERENCE


@pytest.mark.realdata
def test_what_a_real_svs_says_of_itself(data_dir: Path) -> None:
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        assert (slide.reader_name, slide.mpp) == ("tiff", Mpp(x=0.499, y=0.499))
        assert slide.associated_images == ("label", "macro", "thumbnail")
        assert slide.associated_image("macro").shape == (431, 1280, 3)
        assert slide.properties["aperio.AppMag"] == "20"
    no_mpp: Slide = open_slide(data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs")
    assert no_mpp.mpp is None
    assert [level.downsample for level in no_mpp.levels] == [1.0, 2.0]
