from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.wsi import Box, Mpp, open_slide
from slideloom.wsi.readers.tiff.jpeg2000 import read_header, ycc_to_rgb
from slideloom.wsi.readers.tiff.reader import TiffReader
from tests.makers.openslide_twin import MAX_DIFFERENCE, difference
from tests.makers.tiff import subsampled_jpeg2000

WriteTiff = Callable[..., Path]
Picture = NDArray[np.uint8]

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


def write_aperio_ycc(path: Path, tile: bytes, *, side: int) -> Path:
    tifffile.imwrite(
        path,
        iter([tile]),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(side, side),
        photometric="rgb",
        compression=33003,
        description=f"Aperio Image Library v11.2.1\n{side}x{side} J2K|AppMag = 20|MPP = 0.4990",
        metadata=None,
    )
    return path


def test_aperio_jpeg_2000_of_subsampled_chroma(tmp_path: Path, picture: Picture) -> None:
    ycc = rgb_to_ycc(picture[:128, :128])
    luma, half = np.ascontiguousarray(ycc[..., 0]), np.ascontiguousarray(ycc[::2, ::2])
    blue, red = (np.ascontiguousarray(half[..., i]) for i in (1, 2))
    path = write_aperio_ycc(tmp_path / "a.svs", subsampled_jpeg2000(luma, blue, red), side=128)
    chroma = np.repeat(np.repeat(half[..., 1:], 2, axis=0), 2, axis=1)
    expected = ycc_to_rgb(np.concatenate([luma[..., np.newaxis], chroma], axis=-1)).astype(int)
    pixels = TiffReader(path).read(Box(x0=0, y0=0, x1=128, y1=128), 0)
    assert np.abs(pixels - expected).max() <= 1
    assert difference(path, Box(x0=0, y0=0, x1=128, y1=128)) <= MAX_DIFFERENCE


TRUTHS: dict[str, dict[str, Any]] = {
    "webp": {"compression": "webp", "compressionargs": {"level": 90}},
    "jpeg xl": {"compression": "jpegxl"},
    "jpeg 4:2:2": {"compression": "jpeg", "photometric": "ycbcr", "subsampling": (2, 1)},
    "jpeg 2000": {"compression": "jpeg2000", "compressionargs": {"level": 40}},
    "planes": {"compression": "lzw", "planarconfig": "separate"},
    "planes with predictor": {
        "compression": "deflate",
        "predictor": True,
        "planarconfig": "separate",
    },
    "jpeg planes": {"compression": "jpeg", "planarconfig": "separate"},
}


@pytest.mark.parametrize("kind", TRUTHS)
@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"tile": None, "rowsperstrip": 48}])
def test_pixels_are_those_of_tifffile(
    write_tiff: WriteTiff, picture: Picture, kind: str, layout: dict[str, Any]
) -> None:
    options = TRUTHS[kind]
    if options.get("planarconfig") == "separate":
        path = write_planes(write_tiff("x.tif").parent / "planes.tif", picture, **options, **layout)
    else:
        path = write_tiff(**options, **layout)
    expected = tifffile.imread(path)
    if expected.shape[0] == 3:
        expected = np.moveaxis(expected, 0, -1)
    reader = TiffReader(path)
    box = Box(x0=3, y0=33, x1=299, y1=200)
    assert reader.channels == ("red", "green", "blue")
    assert np.array_equal(
        reader.read(box, 0), expected[box.slices_in(Box.of_size(reader.levels[0].size))]
    )


def write_planes(path: Path, picture: Picture, **options: Any) -> Path:
    planes = np.ascontiguousarray(np.moveaxis(picture, -1, 0))
    tifffile.imwrite(path, planes, photometric="rgb", metadata=None, **options)
    return path


def test_subsampled_jpeg_is_that_of_openslide(write_tiff: WriteTiff) -> None:
    path = write_tiff(compression="jpeg", photometric="ycbcr", subsampling=(2, 1))
    assert difference(path, Box(x0=0, y0=33, x1=300, y1=200)) <= MAX_DIFFERENCE


def test_planes_are_those_of_openslide(tmp_path: Path, picture: Picture) -> None:
    path = write_planes(tmp_path / "a.tif", picture, tile=(64, 64), compression="lzw")
    assert difference(path, Box(x0=0, y0=33, x1=300, y1=200)) == 0
