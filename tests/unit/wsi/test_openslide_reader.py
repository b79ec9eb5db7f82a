from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from slideloom.errors import SlideFormatError
from slideloom.wsi import Box, Mpp, Size, open_slide
from slideloom.wsi.readers.openslide_reader import OpenSlideReader
from slideloom.wsi.readers.reader import NotServedError
from tests.makers.mirax import write_mirax
from tests.makers.pictures import smooth_picture

WriteTiff = Callable[..., Path]


class FakeOpenSlide:
    """OpenSlide with one level of half-clear pixels, bounds and a background of its own."""

    level_dimensions = ((40, 30),)
    level_downsamples = (1.0,)

    def __init__(self, path: Path) -> None:
        self.associated_images = {"macro": Image.new("RGBA", (2, 1), (10, 20, 30, 255))}
        self.properties = {
            "openslide.background-color": "102030",
            "openslide.bounds-x": "7",
            "openslide.bounds-y": "5",
            "openslide.mpp-x": "0.25",
            "openslide.mpp-y": "0.2501",
        }

    @staticmethod
    def detect_format(path: Path) -> str:
        return "mirax"

    def read_region(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> object:
        if corner[0] > 30:
            msg = "Bogus marker"
            raise openslide.OpenSlideError(msg)
        image = Image.new("RGBA", size, (200, 100, 0, 255))
        image.putpixel((0, 0), (0, 0, 0, 0))
        image.putpixel((1, 0), (200, 100, 0, 51))
        return image

    def close(self) -> None:
        pass


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenSlideReader:
    monkeypatch.setattr(openslide, "OpenSlide", FakeOpenSlide)
    (tmp_path / "S1.mrxs").write_bytes(b"what the fake does not look at")
    return OpenSlideReader(tmp_path / "S1.mrxs")


def test_what_the_properties_say(reader: OpenSlideReader) -> None:
    assert reader.background == (16, 32, 48)
    assert (reader.bounds_offset.x, reader.bounds_offset.y) == (7, 5)
    assert reader.mpp == Mpp(x=0.25, y=0.2501)
    assert reader.levels[0].size == Size(width=40, height=30)


def test_clear_pixels_show_the_background(reader: OpenSlideReader) -> None:
    pixels = reader.read(Box(x0=0, y0=0, x1=3, y1=1), 0)
    assert pixels.tolist() == [[[16, 32, 48], [53, 46, 38], [200, 100, 0]]]
    assert reader.read_associated("macro").tolist() == [[[10, 20, 30], [10, 20, 30]]]


def test_a_read_that_fails_names_the_place(reader: OpenSlideReader) -> None:
    with pytest.raises(
        SlideFormatError, match=r"'S1\.mrxs' cannot be read at level 0, x 31, y 2.*"
    ):
        reader.read(Box(x0=31, y0=2, x1=33, y1=3), 0)


def test_the_resolution_of_a_screen_is_no_mpp(write_tiff: WriteTiff) -> None:
    screen = write_tiff(resolution=(72, 72), resolutionunit=2)
    assert OpenSlideReader(screen).mpp is None
    scanner = write_tiff(resolution=(40_000, 40_000), resolutionunit=3)
    assert OpenSlideReader(scanner).mpp == Mpp(x=0.25, y=0.25)


def test_names_that_are_no_utf8_are_left_out(tmp_path: Path) -> None:
    path = write_mirax(tmp_path / "S1.mrxs", smooth_picture(70, 60))
    words = tmp_path / "S1" / "Slidedat.ini"
    words.write_bytes(words.read_bytes().replace(b"OBJECTIVE_MAG", b"OBJECTIVE\xff"))
    properties = OpenSlideReader(path).properties
    assert properties["openslide.vendor"] == "mirax"
    assert not [name for name in properties if "OBJECTIVE" in name]


@pytest.mark.parametrize(
    ("tag", "value", "found"),
    [("ImageWidth", 2**30, "states 1073741824 x 30"), ("StripByteCounts", 7, "TIFF")],
)
def test_a_damaged_image_beside_the_pixels_holds_up_nothing_else(
    tmp_path: Path, tag: str, value: int, found: str
) -> None:
    path = tmp_path / "S1.svs"
    with tifffile.TiffWriter(path) as tif:
        style: dict[str, Any] = {"photometric": "rgb", "metadata": None}
        tif.write(smooth_picture(128, 128), tile=(64, 64), description="Aperio Image", **style)
        tif.write(smooth_picture(40, 30), compression="lzw", **style)
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages[1]
        assert isinstance(page, tifffile.TiffPage)
        page.tags[tag].overwrite(value)
    reader = OpenSlideReader(path)
    with pytest.raises(SlideFormatError, match=f"'thumbnail' that cannot be read .*{found}"):
        reader.read_associated("thumbnail")
    assert reader.read(Box(x0=0, y0=0, x1=9, y1=9), 0).shape == (9, 9, 3)


def test_what_openslide_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_text("no slide")
    with pytest.raises(NotServedError, match="OpenSlide knows no format"):
        OpenSlideReader(tmp_path / "a.svs")


def test_what_openslide_finds_damaged(write_tiff: WriteTiff) -> None:
    with pytest.raises(SlideFormatError, match=r"'slide\.tif' cannot be opened.*34712"):
        OpenSlideReader(write_tiff(compression="jpeg2000"))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "size", "mpp", "levels"),
    [
        ("test3-DAPI-2-387.ndpi", (3968, 4864), 0.2282, 7),
        ("multiframe_camelyon_challenge_image.dcm", (1152, 700), 28.97, 1),
    ],
)
def test_real_slides(
    data_dir: Path, name: str, size: tuple[int, int], mpp: float, levels: int
) -> None:
    with open_slide(data_dir / "slides" / name) as slide:
        assert slide.reader_name == "openslide"
        assert slide.size == Size(width=size[0], height=size[1])
        assert slide.require_mpp() == pytest.approx(mpp, rel=1e-3)
        assert len(slide.levels) == levels
        pixels = slide.read(Box(x0=300, y0=200, x1=1100, y1=700))
        assert pixels.shape == (500, 800, 3)
        assert pixels.dtype == np.uint8
        assert np.ptp(pixels) > 50
