"""Slides of each vendor's format, made on the spot or real, opened as a user opens them."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

from slideloom.errors import SlideFormatError
from slideloom.wsi import Box, Mpp, Slide, open_slide
from slideloom.wsi.geometry import Point
from slideloom.wsi.tolerant import BadTile
from tests.makers.leica import write_leica
from tests.makers.mirax import write_mirax
from tests.makers.philips import write_philips
from tests.makers.pictures import Picture, assert_shows, padded_to_tiles, shrunk, smooth_picture
from tests.makers.ventana import write_ventana
from tests.makers.zeiss import CziCodec, write_czi

PICTURE = smooth_picture()
MACRO = np.full((40, 32, 3), (200, 10, 90), np.uint8)
WHITE = [255, 255, 255]
NO_OFFSET = Point(x=0, y=0)


@dataclass(frozen=True)
class Made:
    """A way to write PICTURE, and what slideloom has to say of the file."""

    name: str
    write: Callable[[Path, Picture], Path]
    sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    mpp: float
    offset: Point
    associated: tuple[str, ...]
    tolerance: int

    def __str__(self) -> str:
        return self.name


HALVES = ((608, 488), (304, 244), (152, 122))
CZI = [
    Made(
        name=f"{codec}.czi",
        write=partial(write_czi, codec=codec, macro=MACRO),
        sizes=HALVES,
        downsamples=(1, 2, 4),
        mpp=0.25,
        offset=NO_OFFSET,
        associated=("macro",),
        tolerance=0,
    )
    for codec in ("uncompressed", "zstd0", "zstd1")
]
MADE = [
    Made(
        name="philips.tiff",
        write=partial(write_philips, macro=MACRO),
        sizes=((640, 512), (320, 256), (160, 128)),
        downsamples=(1, 2, 4),
        mpp=0.25,
        offset=NO_OFFSET,
        associated=("label", "macro"),
        tolerance=10,
    ),
    Made(
        name="ventana.bif",
        write=write_ventana,
        sizes=HALVES,
        downsamples=(1, 2, 4),
        mpp=0.25,
        offset=NO_OFFSET,
        associated=("macro", "thumbnail"),
        tolerance=10,
    ),
    Made(
        name="leica.scn",
        write=write_leica,
        sizes=((960, 640), (240, 160)),
        downsamples=(1, 4),
        mpp=0.5,
        offset=Point(x=96, y=64),
        associated=("macro",),
        tolerance=10,
    ),
    Made(
        name="mirax.mrxs",
        write=partial(write_mirax, macro=MACRO),
        sizes=((1024, 768), (512, 384), (256, 192)),
        downsamples=(1, 2, 4),
        mpp=0.25,
        offset=Point(x=192, y=128),
        associated=("macro",),
        tolerance=8,
    ),
    Made(
        name="mirax-overlap.mrxs",
        write=partial(write_mirax, overlap_px=8, macro=MACRO),
        sizes=((904, 680), (452, 340), (226, 170)),
        downsamples=(1, 2, 4),
        mpp=0.25,
        offset=Point(x=168, y=112),
        associated=("macro",),
        tolerance=8,
    ),
    *CZI,
]


def made_slide(made: Made, folder: Path) -> Slide:
    return open_slide(made.write(folder / made.name, PICTURE))


def picture_box(slide: Slide, factor: int) -> Box:
    """Where PICTURE lies in the level, or the thumbnail, of this downsample."""
    x, y = slide.bounds_offset.x // factor, slide.bounds_offset.y // factor
    height, width = (side // factor for side in PICTURE.shape[:2])
    return Box(x0=x, y0=y, x1=x + width, y1=y + height)


def grey_values(pixels: Picture) -> list[int]:
    return [round(value) for value in pixels.mean(axis=(0, 1))]


@pytest.mark.parametrize("made", MADE, ids=str)
def test_what_the_slide_is(made: Made, tmp_path: Path) -> None:
    with made_slide(made, tmp_path) as slide:
        assert slide.reader_name == "openslide"
        assert tuple((level.size.width, level.size.height) for level in slide.levels) == made.sizes
        assert tuple(level.downsample for level in slide.levels) == made.downsamples
        assert slide.mpp == Mpp(x=made.mpp, y=made.mpp)
        assert slide.bounds_offset == made.offset
        assert slide.associated_images == made.associated


@pytest.mark.parametrize("made", MADE, ids=str)
def test_every_level_shows_the_picture(made: Made, tmp_path: Path) -> None:
    with made_slide(made, tmp_path) as slide:
        for number, downsample in enumerate(made.downsamples):
            factor = round(downsample)
            pixels = slide.read(picture_box(slide, factor), level=number)
            assert_shows(pixels, shrunk(PICTURE, factor), tolerance=made.tolerance)


@pytest.mark.parametrize("made", MADE, ids=str)
def test_a_region_across_tiles_is_cut_from_the_picture(made: Made, tmp_path: Path) -> None:
    with made_slide(made, tmp_path) as slide:
        for number, downsample in enumerate(made.downsamples):
            factor = round(downsample)
            x, y, size = 201 // factor, 97 // factor, 240 // factor
            place = picture_box(slide, factor)
            x0, y0 = place.x0 + x, place.y0 + y
            pixels = slide.read(Box(x0=x0, y0=y0, x1=x0 + size, y1=y0 + size), level=number)
            part = shrunk(PICTURE, factor)[y : y + size, x : x + size]
            assert_shows(pixels, part, tolerance=made.tolerance)


@pytest.mark.parametrize("made", MADE, ids=str)
def test_the_thumbnail_shows_the_picture(made: Made, tmp_path: Path) -> None:
    with made_slide(made, tmp_path) as slide:
        thumbnail = slide.thumbnail(max(slide.size.shape) // 4)
        assert thumbnail.shape == (slide.size.height // 4, slide.size.width // 4, 3)
        place = picture_box(slide, 4)
        part = thumbnail[place.y0 : place.y1, place.x0 : place.x1]
        assert_shows(part, shrunk(PICTURE, 4), tolerance=made.tolerance)


@pytest.mark.parametrize("made", MADE, ids=str)
def test_the_macro_has_its_colour(made: Made, tmp_path: Path) -> None:
    colours = {"ventana.bif": [10, 200, 30], "leica.scn": [40, 90, 200]}
    with made_slide(made, tmp_path) as slide:
        found = np.array(grey_values(slide.associated_image("macro")))
        wanted = np.array(colours.get(made.name, [200, 10, 90]))
        assert np.abs(found - wanted).max() <= 2


@pytest.mark.parametrize("made", MADE, ids=str)
def test_half_a_file_is_an_error_that_names_it(made: Made, tmp_path: Path) -> None:
    path = made.write(tmp_path / made.name, PICTURE)
    data = path.with_suffix("") / "Data0000.dat" if path.suffix == ".mrxs" else path
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(SlideFormatError, match=rf"'{made.name}'.*copy or download it again"):
        open_slide(path)


@pytest.mark.parametrize("made", MADE, ids=str)
def test_the_fast_reader_says_that_it_does_not_serve_it(made: Made, tmp_path: Path) -> None:
    path = made.write(tmp_path / made.name, PICTURE)
    reason = "is left to OpenSlide|it is no TIFF"
    with pytest.raises(SlideFormatError, match=rf"'{made.name}'.*({reason})"):
        open_slide(path, reader="tiff")


def test_philips_levels_leave_out_what_pads_their_tiles(tmp_path: Path) -> None:
    path = write_philips(tmp_path / "a.tiff", PICTURE)
    with tifffile.TiffFile(path) as tif:
        pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
        stored = [(page.imagewidth, page.imagelength) for page in pages if page.is_tiled]
    assert stored == [(640, 512), (384, 256), (256, 128)]
    with open_slide(path) as slide:
        whole = slide.read(Box.of_size(slide.levels[2].size), level=2)
        assert_shows(whole, shrunk(padded_to_tiles(PICTURE, 128), 4), tolerance=10)


def test_philips_tiles_that_are_missing_are_white(tmp_path: Path) -> None:
    path = write_philips(tmp_path / "a.tiff", PICTURE, missing=frozenset({(1, 2), (3, 4)}))
    with open_slide(path) as slide:
        assert grey_values(slide.read(Box(x0=256, y0=128, x1=384, y1=256))) == WHITE
        beside = slide.read(Box(x0=384, y0=128, x1=512, y1=256))
        assert_shows(beside, PICTURE[128:256, 384:512], tolerance=10)


@pytest.mark.parametrize("overlap_px", [8, 0])
def test_ventana_tiles_overlap_as_the_xml_says(tmp_path: Path, overlap_px: int) -> None:
    step = 128 - overlap_px
    picture = smooth_picture(5 * step + overlap_px, 4 * step + overlap_px)
    with open_slide(write_ventana(tmp_path / "a.bif", picture, overlap_px=overlap_px)) as slide:
        assert slide.size.shape == picture.shape[:2]
        assert_shows(slide.read(Box.of_size(slide.size)), picture, tolerance=10)


@pytest.mark.parametrize("name", ["leica.scn", "mirax.mrxs", "mirax-overlap.mrxs"])
def test_what_was_not_scanned_is_white(tmp_path: Path, name: str) -> None:
    made = next(item for item in MADE if item.name == name)
    with made_slide(made, tmp_path) as slide:
        x, y = made.offset.x, made.offset.y
        assert slide.read(Box(x0=0, y0=0, x1=x, y1=slide.size.height)).min() == 255
        assert slide.read(Box(x0=0, y0=0, x1=slide.size.width, y1=y)).min() == 255
        assert slide.read(Box(x0=x, y0=y, x1=x + 1, y1=y + 1)).min() < 100


@pytest.mark.parametrize("lost", ["Data0000.dat", "Index.dat"])
def test_a_mirax_that_lost_a_file_names_the_file(tmp_path: Path, lost: str) -> None:
    path = write_mirax(tmp_path / "S7.mrxs", PICTURE)
    (tmp_path / "S7" / lost).unlink()
    with pytest.raises(SlideFormatError, match=rf"'S7\.mrxs'.*{lost}.*copy or download"):
        open_slide(path)


@pytest.mark.parametrize("lost", ["S7", "S7/Slidedat.ini"])
def test_a_mirax_without_its_folder_is_no_slide(tmp_path: Path, lost: str) -> None:
    path = write_mirax(tmp_path / "S7.mrxs", PICTURE)
    if (tmp_path / lost).is_dir():
        shutil.rmtree(tmp_path / lost)
    else:
        (tmp_path / lost).unlink()
    with pytest.raises(SlideFormatError, match=r"'S7\.mrxs'.*S7.*copy"):
        open_slide(path)


def test_a_mirax_image_that_is_damaged_can_be_read_as_blank(tmp_path: Path) -> None:
    path = write_mirax(tmp_path / "S7.mrxs", PICTURE)
    store = tmp_path / "S7" / "Data0000.dat"
    content = bytearray(store.read_bytes())
    first = content.index(b"\xff\xd8\xff")
    content[first : first + 200] = bytes(200)
    store.write_bytes(content)
    with open_slide(path) as slide, pytest.raises(SlideFormatError, match="cannot be read at"):
        slide.read(Box(x0=192, y0=128, x1=200, y1=136))
    with open_slide(path, on_bad_tile="blank") as slide:
        assert slide.read(Box(x0=192, y0=128, x1=256, y1=192)).min() == 255
        assert_shows(
            slide.read(Box(x0=256, y0=128, x1=448, y1=192)), PICTURE[:64, 64:256], tolerance=8
        )
        assert slide.bad_tiles == (BadTile(level=0, row=2, col=3),)


def test_the_fingerprint_of_a_mirax_sees_its_folder(tmp_path: Path) -> None:
    path = write_mirax(tmp_path / "S7.mrxs", PICTURE)
    before = Slide(path).fingerprint()
    store = tmp_path / "S7" / "Data0000.dat"
    store.write_bytes(store.read_bytes()[:-100] + bytes(100))
    assert Slide(path).fingerprint() != before


def test_an_empty_mirax_is_no_slide(tmp_path: Path) -> None:
    path = write_mirax(tmp_path / "S7.mrxs", PICTURE)
    path.write_bytes(b"")
    with pytest.raises(SlideFormatError, match=r"'S7\.mrxs' is empty \(0 bytes\)"):
        open_slide(path)


REFUSED: list[tuple[CziCodec, bool, str]] = [
    ("jpeg", False, "JPEG compression is not supported"),
    ("jpegxr", False, "JPEG XR compression is not supported"),
    ("uncompressed", True, "Pixel type GRAY8 is not supported"),
]


@pytest.mark.parametrize(("codec", "grey", "reason"), REFUSED)
def test_a_czi_that_openslide_does_not_read(
    tmp_path: Path, codec: CziCodec, grey: bool, reason: str
) -> None:
    path = write_czi(tmp_path / "a.czi", PICTURE, codec=codec, grey=grey)
    with pytest.raises(SlideFormatError, match=rf"'a\.czi' cannot be opened.*{reason}") as caught:
        open_slide(path)
    assert "damaged" not in str(caught.value)
    assert "download" not in str(caught.value)


@dataclass(frozen=True)
class Real:
    """A real slide, and what slideloom has to say of it."""

    name: str
    reader: str
    sizes: tuple[tuple[int, int], ...]
    mpp: float | None
    associated: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


NDPI_SIZES = tuple((3968 >> step, 4864 >> step) for step in range(7))
REAL = [
    Real(
        name="CMU-1-Small-Region.svs",
        reader="tiff",
        sizes=((2220, 2967),),
        mpp=0.499,
        associated=("label", "macro", "thumbnail"),
    ),
    Real(
        name="tcga-cr-7395-01a-01-ts1.svs",
        reader="tiff",
        sizes=((4443, 3567), (2221, 1783)),
        mpp=None,
        associated=("thumbnail",),
    ),
    *(
        Real(name=name, reader="openslide", sizes=NDPI_SIZES, mpp=0.2282, associated=("macro",))
        for name in ("test3-DAPI-2-387.ndpi", "test3-TRITC_2_560.ndpi")
    ),
]


@pytest.mark.realdata
@pytest.mark.parametrize("real", REAL, ids=str)
def test_what_a_real_slide_is(data_dir: Path, real: Real) -> None:
    with open_slide(data_dir / "slides" / real.name) as slide:
        assert slide.reader_name == real.reader
        assert tuple((level.size.width, level.size.height) for level in slide.levels) == real.sizes
        assert [level.downsample for level in slide.levels] == [
            2.0**step for step in range(len(real.sizes))
        ]
        if real.mpp is None:
            assert slide.mpp is None
        else:
            assert slide.require_mpp() == pytest.approx(real.mpp, abs=1e-4)
        assert slide.bounds_offset == NO_OFFSET
        assert slide.associated_images == real.associated
        for name in real.associated:
            assert slide.associated_image(name).std() > 1


@pytest.mark.realdata
@pytest.mark.parametrize("real", REAL, ids=str)
def test_a_real_slide_shows_what_tifffile_decodes(data_dir: Path, real: Real) -> None:
    path = data_dir / "slides" / real.name
    with tifffile.TiffFile(path) as tif, open_slide(path) as slide:
        pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
        stored = {(page.imagewidth, page.imagelength): page for page in pages}
        # OpenSlide makes the coarsest levels of an NDPI itself.
        sizes = [size for size in real.sizes if size in stored]
        assert len(sizes) == min(4, len(real.sizes))
        for level, (width, height) in enumerate(sizes):
            x, y = width // 3, height // 3
            box = Box(x0=x, y0=y, x1=x + width // 4, y1=y + height // 4)
            wanted = stored[width, height].asarray()[box.y0 : box.y1, box.x0 : box.x1]
            found = slide.read(box, level=level)
            assert np.abs(found.astype(np.int16) - wanted).max() <= 1
            assert found.std() > 1


@pytest.mark.realdata
@pytest.mark.parametrize("real", REAL[2:], ids=str)
def test_no_level_of_a_real_ndpi_is_moved(data_dir: Path, real: Real) -> None:
    with open_slide(data_dir / "slides" / real.name) as slide:
        finest = slide.read(Box(x0=1280, y0=1536, x1=2560, y1=2816))
        for number, level in enumerate(slide.levels):
            factor = round(level.downsample)
            x, y, side = 1280 // factor, 1536 // factor, 1280 // factor
            found = slide.read(Box(x0=x, y0=y, x1=x + side, y1=y + side), level=number)
            # A scanner's own way to halve a level, and a second JPEG, differ at edges.
            assert_shows(found, shrunk(finest, factor), tolerance=64)
