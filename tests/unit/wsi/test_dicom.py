"""DICOM slides: made ones in each organisation and codec, a real one, and broken series."""

from itertools import product
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.uid import MicroscopyBulkSimpleAnnotationsStorage, generate_uid

from slideloom.errors import MissingMppError, SlideFormatError
from slideloom.wsi import Box, Mpp, Slide, open_slide
from slideloom.wsi.geometry import Point
from slideloom.wsi.tolerant import BadTile
from tests.makers.dicom import DicomCodec, DicomStyle, Organisation, write_dicom_slide
from tests.makers.pictures import Picture, assert_shows, shrunk, smooth_picture

PICTURE = smooth_picture()
SIZES = [(608, 488), (304, 244), (152, 122)]
ORGANISATIONS: list[Organisation] = ["TILED_FULL", "TILED_SPARSE"]
TOLERANCE: dict[DicomCodec, int] = {"jpeg": 7, "jpeg2000": 0, "uncompressed": 0}
WAYS = list(product(ORGANISATIONS, TOLERANCE))


def sizes_of(slide: Slide) -> list[tuple[int, int]]:
    return [(level.size.width, level.size.height) for level in slide.levels]


def whole(slide: Slide, level: int) -> Picture:
    return slide.read(Box.of_size(slide.levels[level].size), level=level)


@pytest.mark.parametrize(("organisation", "codec"), WAYS)
def test_a_series_in_one_folder_is_one_slide(
    tmp_path: Path, organisation: Organisation, codec: DicomCodec
) -> None:
    folder = tmp_path / "S1"
    write_dicom_slide(folder, PICTURE, organisation=organisation, codec=codec)
    with open_slide(folder) as slide:
        assert slide.reader_name == "openslide"
        assert sizes_of(slide) == SIZES
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        assert (slide.levels[0].tile.width, slide.levels[0].tile.height) == (128, 128)
        assert slide.mpp == Mpp(x=0.25, y=0.25)
        assert slide.bounds_offset == Point(x=0, y=0)
        for level, factor in enumerate((1, 2, 4)):
            wanted = shrunk(PICTURE, factor)
            assert_shows(whole(slide, level), wanted, tolerance=TOLERANCE[codec])
        across_tiles = slide.read(Box(x0=100, y0=90, x1=400, y1=300))
        assert_shows(across_tiles, PICTURE[90:300, 100:400], tolerance=TOLERANCE[codec])
        assert_shows(slide.thumbnail(152), shrunk(PICTURE, 4), tolerance=TOLERANCE[codec])


@pytest.mark.parametrize("member", range(5), ids=["1", "2", "4", "label", "overview"])
def test_any_file_of_a_series_opens_the_whole_slide(tmp_path: Path, member: int) -> None:
    paths = write_dicom_slide(tmp_path, PICTURE, codec="uncompressed")
    with open_slide(paths[member]) as slide:
        assert sizes_of(slide) == SIZES
        assert slide.mpp == Mpp(x=0.25, y=0.25)
        assert_shows(whole(slide, 0), PICTURE, tolerance=0)


def test_a_file_on_its_own_opens_as_a_slide_of_its_level(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path / "S1", PICTURE)[1]
    (tmp_path / "alone").mkdir()
    with open_slide(path.rename(tmp_path / "alone" / "x.dcm")) as slide:
        assert sizes_of(slide) == SIZES[1:2]
        assert slide.mpp == Mpp(x=0.5, y=0.5)
        assert slide.associated_images == ()
        assert_shows(whole(slide, 0), shrunk(PICTURE, 2), tolerance=7)


@pytest.mark.parametrize(("codec", "tolerance"), TOLERANCE.items())
def test_label_and_overview(tmp_path: Path, codec: DicomCodec, tolerance: int) -> None:
    with open_slide(write_dicom_slide(tmp_path, PICTURE, codec=codec)[0]) as slide:
        assert slide.associated_images == ("label", "macro")
        label, macro = (slide.associated_image(name) for name in ("label", "macro"))
    assert (label.shape, macro.shape) == ((24, 40, 3), (32, 64, 3))
    for found, wanted in ((label, (250, 240, 10)), (macro, (30, 160, 90))):
        assert np.abs(found.astype(np.int16) - np.array(wanted)).max() <= tolerance


def test_frames_that_a_sparse_series_leaves_out_are_white(tmp_path: Path) -> None:
    style = DicomStyle(missing=frozenset({(0, 0), (1, 2), (3, 4)}))
    write_dicom_slide(
        tmp_path, PICTURE, organisation="TILED_SPARSE", codec="uncompressed", style=style
    )
    wanted = PICTURE.copy()
    for row, col in style.missing:
        wanted[row * 128 : row * 128 + 128, col * 128 : col * 128 + 128] = 255
    with open_slide(tmp_path) as slide:
        assert_shows(whole(slide, 0), wanted, tolerance=0)
        assert_shows(whole(slide, 1), shrunk(PICTURE, 2), tolerance=0)


def test_spacing_names_the_axes_in_the_order_of_dicom(tmp_path: Path) -> None:
    style = DicomStyle(mpp=(0.25, 0.5))
    with open_slide(write_dicom_slide(tmp_path, PICTURE, style=style)[0]) as slide:
        assert slide.mpp == Mpp(x=0.25, y=0.5)
        with pytest.raises(MissingMppError, match=r"0\.25 um/px along x but 0\.5 along y"):
            slide.require_mpp()


def test_a_series_without_spacing_has_no_mpp(tmp_path: Path) -> None:
    paths = write_dicom_slide(tmp_path, PICTURE, style=DicomStyle(spacing=False))
    with open_slide(paths[0]) as slide:
        assert slide.mpp is None
        with pytest.raises(MissingMppError, match=r"'level-1\.dcm' states no mpp.*--mpp"):
            slide.require_mpp()


def test_two_slides_in_a_folder_are_opened_by_their_files(tmp_path: Path) -> None:
    first = write_dicom_slide(tmp_path, PICTURE, style=DicomStyle(prefix="a-"))[0]
    other = PICTURE[::-1, ::-1]
    second = write_dicom_slide(tmp_path, other, style=DicomStyle(prefix="b-"))[0]
    with pytest.raises(SlideFormatError, match=r"2 slides \(a-level-1\.dcm, b-level-1\.dcm\)"):
        open_slide(tmp_path)
    for path, picture in ((first, PICTURE), (second, other)):
        with open_slide(path) as slide:
            assert_shows(whole(slide, 0), picture, tolerance=7)


def test_files_that_are_no_dicom_are_passed_over(tmp_path: Path) -> None:
    write_dicom_slide(tmp_path, PICTURE)
    (tmp_path / "readme.txt").write_text("scanned on Monday")
    (tmp_path / "sub").mkdir()
    with open_slide(tmp_path) as slide:
        assert sizes_of(slide) == SIZES


def test_label_and_overview_alone_are_no_slide(tmp_path: Path) -> None:
    label, _ = write_dicom_slide(tmp_path / "S1", PICTURE, levels=())
    with pytest.raises(SlideFormatError, match="'S1' holds 2 DICOM files and none of them"):
        open_slide(tmp_path / "S1")
    with pytest.raises(SlideFormatError, match=r"'label\.dcm'.*No pyramid levels found"):
        open_slide(label)


def test_a_folder_without_dicom_is_no_slide(tmp_path: Path) -> None:
    (tmp_path / "S1").mkdir()
    with pytest.raises(SlideFormatError, match=r"S1' is no slide .*folder without DICOM files"):
        open_slide(tmp_path / "S1")
    (tmp_path / "S1" / "notes.dcm").write_text("no DICOM")
    with pytest.raises(SlideFormatError, match=r"'notes\.dcm'.*OpenSlide knows no format"):
        open_slide(tmp_path / "S1" / "notes.dcm")


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"")
    with pytest.raises(SlideFormatError, match=r"'x\.dcm' is empty \(0 bytes\).*again"):
        open_slide(tmp_path / "x.dcm")


@pytest.mark.parametrize("kept", [0.002, 0.5, 0.98])
@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_a_level_that_was_cut_off_is_told(
    tmp_path: Path, organisation: Organisation, kept: float
) -> None:
    paths = write_dicom_slide(tmp_path, PICTURE, organisation=organisation, codec="uncompressed")
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[: round(len(content) * kept)])
    message = r"'level-1\.dcm' cannot be (opened|read).*libdicom.*copy or download it again"
    with pytest.raises(SlideFormatError, match=message), open_slide(paths[0]) as slide:
        whole(slide, 0)


@pytest.mark.parametrize("kept", [140, 153, 400, 700])
def test_a_folder_whose_finest_file_lost_its_header_is_told(tmp_path: Path, kept: int) -> None:
    path = write_dicom_slide(tmp_path / "S1", PICTURE)[0]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SlideFormatError, match=r"level-1\.dcm"):
        open_slide(tmp_path / "S1")


def test_a_frame_that_is_no_picture_is_told_with_its_place(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path, PICTURE)[0]
    content = bytearray(path.read_bytes())
    frame = content.rindex(b"\xff\xd8\xff")
    content[frame : frame + 200] = bytes(200)
    path.write_bytes(content)
    with open_slide(path) as slide:
        assert_shows(slide.read(Box(x0=0, y0=0, x1=500, y1=380)), PICTURE[:380, :500], tolerance=7)
        with pytest.raises(SlideFormatError, match=r"'level-1\.dcm' cannot be read at level 0"):
            whole(slide, 0)
    with open_slide(path, on_bad_tile="blank") as slide:
        assert whole(slide, 0)[384:, 512:].min() == 255
        assert slide.bad_tiles == (BadTile(level=0, row=3, col=4),)


def test_jpeg_ls_is_refused_as_what_openslide_does_not_read(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path, PICTURE, codec="jpegls")[0]
    reason = r"'level-1\.dcm' cannot be opened.*transfer syntax 1\.2\.840\.10008\.1\.2\.4\.80"
    with pytest.raises(SlideFormatError, match=reason) as caught:
        open_slide(path)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("codec", ["jpeg", "uncompressed"])
def test_a_grey_dicom_is_refused(tmp_path: Path, codec: DicomCodec) -> None:
    path = write_dicom_slide(tmp_path, PICTURE, codec=codec, style=DicomStyle(grey=True))[0]
    with pytest.raises(SlideFormatError, match=r"'level-1\.dcm' cannot be opened"):
        open_slide(path)


def test_a_grey_dicom_is_told_as_what_it_may_be(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path, PICTURE, style=DicomStyle(grey=True))[0]
    with pytest.raises(SlideFormatError, match=r"PlanarConfiguration.*or of a kind that OpenSlide"):
        open_slide(path)


def test_a_header_whose_first_element_is_too_short_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "S1"
    write_dicom_slide(folder, smooth_picture(300, 200))
    for path in folder.iterdir():
        data = path.read_bytes()
        path.write_bytes(data.replace(b"\2\0\0\0UL\4\0", b"\2\0\0\0UL\2\0", 1))
    with pytest.raises(SlideFormatError, match="holds 5 DICOM files of 5 slides"):
        open_slide(folder)


def test_annotations_beside_a_slide_are_no_slide(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path, PICTURE)[0]
    header = pydicom.dcmread(path, stop_before_pixels=True)
    header.SOPClassUID = MicroscopyBulkSimpleAnnotationsStorage
    header.SeriesInstanceUID = generate_uid()
    header.save_as(tmp_path / "annotations.dcm")
    with open_slide(tmp_path) as slide:
        assert slide.size.shape == PICTURE.shape[:2]


def test_a_series_has_one_fingerprint_that_sees_all_its_files(tmp_path: Path) -> None:
    paths = write_dicom_slide(tmp_path, PICTURE)
    prints = {Slide(path).fingerprint() for path in (tmp_path, *paths)}
    assert len(prints) == 1
    with paths[1].open("r+b") as file:
        file.seek(-1000, 2)
        file.write(bytes(1000))
    assert Slide(tmp_path).fingerprint() not in prints


@pytest.mark.realdata
def test_a_real_dicom_shows_its_frames(data_dir: Path) -> None:
    path = data_dir / "slides" / "multiframe_camelyon_challenge_image.dcm"
    header = pydicom.dcmread(path)
    frames = list(generate_frames(header.PixelData, number_of_frames=header.NumberOfFrames))
    with open_slide(path) as slide:
        assert slide.reader_name == "openslide"
        assert sizes_of(slide) == [(1152, 700)]
        assert slide.require_mpp() == pytest.approx(28.97, abs=0.01)
        assert slide.associated_images == ()
        pixels = whole(slide, 0)
    for number, frame in enumerate(frames):
        y, x = (place * 256 for place in divmod(number, 5))
        part = pixels[y : y + 256, x : x + 256]
        wanted = imagecodecs.jpeg_decode(frame)[: part.shape[0], : part.shape[1]]
        assert np.abs(part.astype(np.int16) - wanted).max() <= 1
    assert pixels.std() > 1
