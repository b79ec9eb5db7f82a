from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.wsi import Box, open_slide
from slideloom.wsi.readers.reader import RGB_CHANNELS, NotServedError
from slideloom.wsi.readers.tiff.reader import TiffReader

Picture = NDArray[np.uint8]
WHOLE = Box(x0=0, y0=0, x1=300, y1=200)


def write(path: Path, pixels: NDArray[Any], **options: Any) -> TiffReader:
    tifffile.imwrite(path, pixels, **({"tile": (64, 64), "metadata": None} | options))
    return TiffReader(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slide.tif"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("predictor", [False, True])
def test_grey_of_every_type(
    path: Path, picture: Picture, dtype: str, byteorder: str, *, predictor: bool
) -> None:
    grey = (picture[..., 2].astype(np.float32) * 1.5).astype(dtype)
    options = {"compression": "deflate", "predictor": predictor, "byteorder": byteorder}
    reader = write(path, grey, photometric="minisblack", **options)
    assert (reader.channels, reader.dtype, reader.background) == (("grey",), grey.dtype, (0,))
    assert np.array_equal(reader.read(WHOLE, 0), grey[..., np.newaxis])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_that_is_stored_as_0_is_turned_round(
    path: Path, picture: Picture, dtype: str
) -> None:
    grey = picture[..., 2].astype(dtype) * (1 if dtype == "uint8" else 200)
    reader = write(path, grey, photometric="miniswhite")
    assert np.array_equal(reader.read(WHOLE, 0)[..., 0], np.iinfo(dtype).max - grey)


def test_16_bit_rgb_keeps_its_values(path: Path, picture: Picture) -> None:
    pixels = picture.astype(np.uint16) * 250
    reader = write(path, pixels, photometric="rgb", compression="lzw")
    assert (reader.channels, reader.dtype) == (RGB_CHANNELS, np.dtype("uint16"))
    assert reader.background == (65535, 65535, 65535)
    assert np.array_equal(reader.read(WHOLE, 0), pixels)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_alpha_is_laid_over_white(path: Path, picture: Picture, kind: str) -> None:
    alpha = np.linspace(0, 255, 300).astype(np.uint8) * np.ones((200, 1), np.uint8)
    share = alpha[..., np.newaxis] / 255
    colour = picture if kind == "unassalpha" else np.rint(picture * share).astype(np.uint8)
    rgba = np.dstack([colour, alpha])
    reader = write(path, rgba, photometric="rgb", extrasamples=[kind])
    expected = picture * share + 255 * (1 - share)
    assert reader.channels == RGB_CHANNELS
    assert np.abs(reader.read(WHOLE, 0) - expected).max() <= 1
    with open_slide(path, reader="openslide") as slide:
        difference = slide.read(WHOLE, level=0).astype(int) - reader.read(WHOLE, 0)
    # OpenSlide multiplies the colours by alpha in 8 bits, and divides them again.
    assert np.abs(difference).max() <= 2


def test_extra_samples_that_are_no_alpha_are_dropped(path: Path, picture: Picture) -> None:
    pixels = np.dstack([picture, picture[..., 0] // 2])
    reader = write(path, pixels, photometric="rgb", extrasamples=["unspecified"])
    assert np.array_equal(reader.read(WHOLE, 0), picture)


def test_grey_with_alpha_is_laid_over_white(path: Path, picture: Picture) -> None:
    pixels = np.dstack([picture[..., 0], np.full((200, 300), 51, np.uint8)])
    reader = write(path, pixels, photometric="minisblack", extrasamples=["unassalpha"])
    expected = np.rint(picture[..., :1] * 0.2 + 255 * 0.8)
    assert reader.channels == ("grey",)
    assert np.abs(reader.read(WHOLE, 0) - expected).max() <= 1


@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate"}, {"compression": "jpeg"}])
def test_cmyk_becomes_rgb(path: Path, picture: Picture, options: dict[str, Any]) -> None:
    cmyk = np.dstack([255 - picture, picture[..., 0] // 4])
    stored = np.moveaxis(cmyk, -1, 0) if "planarconfig" in options else cmyk
    reader = write(path, np.ascontiguousarray(stored), photometric="separated", **options)
    truth = tifffile.imread(path)
    truth = np.moveaxis(truth, 0, -1) if "planarconfig" in options else truth
    light = 255 - truth.astype(int)
    assert reader.channels == RGB_CHANNELS
    assert np.array_equal(reader.read(WHOLE, 0), light[..., :3] * light[..., 3:] // 255)
    assert np.abs(truth.astype(int) - cmyk).max() <= (20 if "compression" in options else 0)


def test_cmyk_is_that_of_openslide(path: Path, picture: Picture) -> None:
    cmyk = np.dstack([255 - picture, picture[..., 0] // 4])
    pixels = write(path, cmyk, photometric="separated").read(WHOLE, 0)
    with open_slide(path, reader="openslide") as slide:
        assert np.array_equal(slide.read(WHOLE, level=0), pixels)


@pytest.mark.parametrize("scale", [1, 257])
def test_a_palette_becomes_rgb(path: Path, picture: Picture, scale: int) -> None:
    palette = np.random.default_rng(0).integers(0, 256, (3, 256))
    colormap = (palette * scale).astype(np.uint16)
    reader = write(path, picture[..., 2], photometric="palette", colormap=colormap)
    assert np.array_equal(reader.read(WHOLE, 0), palette.T[picture[..., 2]])


def test_what_is_no_channel_is_refused(path: Path, picture: Picture) -> None:
    for pixels, options, found in (
        (picture[..., 0].astype(np.int16), {}, "16 bits per sample"),
        (picture[..., 0].astype(np.uint32), {}, "32 bits per sample"),
        (picture[..., 0] > 99, {}, "1 bits per sample"),
        (picture, {"photometric": "cielab"}, "photometric interpretation 8"),
        (picture[..., 0].astype(np.float32), {"photometric": "miniswhite"}, "interpretation 0"),
        (picture, {"photometric": "rgb", "compression": "png"}, "compression 34933"),
    ):
        with pytest.raises(NotServedError, match=f"{found}.*convert"):
            write(path, pixels, **({"photometric": "minisblack"} | options))


@pytest.mark.parametrize("options", [{"compression": "jpeg"}, {"compression": "lzw"}])
def test_luma_and_chroma_in_planes_of_their_own_are_refused(
    path: Path, picture: Picture, options: dict[str, Any]
) -> None:
    planes = np.ascontiguousarray(np.moveaxis(picture, -1, 0))
    write(path, planes, photometric="rgb", planarconfig="separate", **options)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags["PhotometricInterpretation"].overwrite(6)
    with pytest.raises(NotServedError, match="photometric interpretation 6 in 1 x uint8"):
        TiffReader(path)
