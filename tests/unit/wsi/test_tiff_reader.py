import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.wsi import Box, Mpp, Slide, open_slide
from slideloom.wsi.reader import NotServedError
from slideloom.wsi.tiff_jpeg2000 import read_header, ycc_to_rgb
from slideloom.wsi.tiff_reader import TiffReader

WriteTiff = Callable[..., Path]
Picture = NDArray[np.uint8]
MAX_DIFFERENCE = 1
"""Grey values by which the fast reader may differ from OpenSlide."""


def difference(path: Path, box: Box, *, level: int = 0) -> int:
    with open_slide(path, reader="tiff") as fast, open_slide(path, reader="openslide") as slow:
        pixels = fast.read(box, level=level).astype(int), slow.read(box, level=level).astype(int)
    assert np.ptp(pixels[0]) > 50
    return int(np.abs(pixels[0] - pixels[1]).max())


CODECS: dict[str, dict[str, Any]] = {
    "none": {"compression": None},
    "lzw": {"compression": "lzw"},
    "lzw with predictor": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "deflate"},
    "adobe deflate with predictor": {"compression": "adobe_deflate", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "bigtiff": {"compression": "lzw", "bigtiff": True},
}
JPEGS: dict[str, dict[str, Any]] = {
    "jpeg YCbCr 4:2:0": {"photometric": "ycbcr", "subsampling": (2, 2)},
    "jpeg YCbCr 4:4:4": {"photometric": "ycbcr", "subsampling": (1, 1)},
    "jpeg RGB": {"compressionargs": {"level": 80, "outcolorspace": "rgb"}},
}


@pytest.mark.parametrize("codec", CODECS)
def test_lossless_pixels_come_back(write_tiff: WriteTiff, picture: Picture, codec: str) -> None:
    path = write_tiff(**CODECS[codec])
    with open_slide(path) as slide:
        assert slide.reader_name == "tiff"
        assert np.array_equal(slide.read(Box(x0=0, y0=0, x1=300, y1=200)), picture)
    assert difference(path, Box(x0=-7, y0=33, x1=310, y1=205)) == 0


def test_big_endian(write_tiff: WriteTiff, picture: Picture) -> None:
    with open_slide(write_tiff(compression="lzw", predictor=True, byteorder=">")) as slide:
        assert np.array_equal(slide.read(Box.of_size(slide.size)), picture)


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_pixels_are_those_of_openslide(write_tiff: WriteTiff, kind: str) -> None:
    path = write_tiff(**({"compression": "jpeg"} | JPEGS[kind]))
    assert difference(path, Box(x0=-7, y0=33, x1=310, y1=205)) <= MAX_DIFFERENCE


def aperio_jpeg2000(path: Path, picture: Picture, *, compression: int) -> Picture:
    """Write an SVS of JPEG 2000 codestreams; 33003 stores luma and chroma, 33005 stores RGB."""
    padded = np.pad(picture, ((0, 56), (0, 20), (0, 0)), mode="edge")
    stored = padded if compression == 33005 else rgb_to_ycc(padded)

    def tiles() -> Iterator[bytes]:
        for y in range(0, 256, 64):
            for x in range(0, 320, 64):
                tile = np.ascontiguousarray(stored[y : y + 64, x : x + 64])
                yield bytes(imagecodecs.jpeg2k_encode(tile, codecformat="j2k", mct=False, level=0))

    tifffile.imwrite(
        path,
        tiles(),
        shape=picture.shape,
        dtype=np.uint8,
        tile=(64, 64),
        photometric="rgb",
        compression=compression,
        description="Aperio Image Library v11.2.1\n300x200 J2K|AppMag = 20|MPP = 0.4990",
        metadata=None,
    )
    return padded[:200, :300]


def rgb_to_ycc(rgb: Picture) -> Picture:
    matrix = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    ycc = rgb.astype(float) @ np.array(matrix).T + [0, 128, 128]
    clipped: Picture = np.clip(np.rint(ycc), 0, 255).astype(np.uint8)
    return clipped


@pytest.mark.parametrize("compression", [33003, 33005])
def test_aperio_jpeg_2000(tmp_path: Path, picture: Picture, compression: int) -> None:
    path = tmp_path / "a.svs"
    expected = aperio_jpeg2000(path, picture, compression=compression)
    with open_slide(path) as slide:
        assert (slide.reader_name, slide.mpp) == ("tiff", Mpp(x=0.499, y=0.499))
        pixels = slide.read(Box.of_size(slide.size))
        assert np.abs(pixels.astype(int) - expected).max() <= 2
    assert difference(path, Box(x0=0, y0=0, x1=300, y1=200)) <= MAX_DIFFERENCE


def test_jpeg_2000_that_openslide_refuses(write_tiff: WriteTiff, picture: Picture) -> None:
    with open_slide(write_tiff(compression="jpeg2000")) as slide:
        assert np.array_equal(slide.read(Box.of_size(slide.size)), picture)
        assert (slide.properties, slide.associated_images) == ({}, ())


def test_chroma_colours_round_trip() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    assert np.abs(ycc_to_rgb(rgb_to_ycc(rgb)).astype(int) - rgb).max() <= 2


def test_subsampled_chroma_is_seen_in_the_codestream(picture: Picture) -> None:
    stream = bytearray(imagecodecs.jpeg2k_encode(picture, codecformat="j2k"))
    assert not read_header(bytes(stream)).has_subsampled_chroma
    assert stream[40:51] == bytes([0, 3, 7, 1, 1, 7, 1, 1, 7, 1, 1])
    stream[46] = 2
    assert read_header(bytes(stream)).has_subsampled_chroma
    with pytest.raises(ValueError, match="no JPEG 2000 codestream"):
        read_header(b"no codestream")
    with pytest.raises(ValueError, match="cut off"):
        read_header(bytes(stream[:45]))


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


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each tile was decoded, by its index."""
    seen: Counter[int] = Counter()
    decode_tile = TiffReader._decode

    def note(self: TiffReader, source: Any, tile: Any, *, index: int) -> Any:
        seen[index] += 1
        return decode_tile(self, source, tile, index=index)

    monkeypatch.setattr(TiffReader, "_decode", note)
    return seen


def test_each_tile_is_decoded_once_per_read(write_tiff: WriteTiff, decoded: Counter[int]) -> None:
    reader = TiffReader(write_tiff(), cache_bytes=0)
    reader.read(Box(x0=63, y0=64, x1=193, y1=129), 0)
    assert decoded == Counter([5, 6, 7, 8, 10, 11, 12, 13])


MPPS: dict[str, tuple[dict[str, Any], Mpp | None]] = {
    "centimetre": ({"resolution": (40_000, 20_000), "resolutionunit": 3}, Mpp(x=0.25, y=0.5)),
    "inch": ({"resolution": (25_400, 25_400), "resolutionunit": 2}, Mpp(x=1, y=1)),
    "screen": ({"resolution": (72, 72), "resolutionunit": 2}, None),
    "printer": ({"resolution": (300, 300), "resolutionunit": 2}, None),
    "unitless": ({"resolution": (40_000, 40_000), "resolutionunit": 1}, None),
    "aperio": ({"description": "Aperio Image\n9x9|MPP = 0.2525|x = 1"}, Mpp(x=0.2525, y=0.2525)),
    "not aperio": ({"description": "Other|MPP = 0.2525"}, None),
    "aperio zero": ({"description": "Aperio Image\n9x9|MPP = 0"}, None),
}


@pytest.mark.parametrize("kind", MPPS)
def test_mpp(write_tiff: WriteTiff, kind: str) -> None:
    options, expected = MPPS[kind]
    with open_slide(write_tiff(**options)) as slide:
        assert slide.mpp == expected


@pytest.mark.parametrize(
    ("unit", "factor"), [(None, 1.0), ("µm", 1.0), ("nm", 1e-3), ("mm", 1e3), ("pixel", None)]
)
def test_mpp_of_ome(
    tmp_path: Path, picture: Picture, unit: str | None, factor: float | None
) -> None:
    metadata: dict[str, object] = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    if unit is not None:
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, picture, tile=(64, 64), photometric="rgb", metadata=metadata)
    with open_slide(path) as slide:
        assert slide.reader_name == "tiff"
        if factor is None:
            assert slide.mpp is None
        else:
            assert slide.mpp is not None
            assert (slide.mpp.x, slide.mpp.y) == pytest.approx((0.5 * factor, 0.25 * factor))


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
