import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from slideloom.errors import (
    SettingsError,
    SlideAccessError,
    SlideFormatError,
    SlideNotFoundError,
)
from slideloom.wsi import Box, open_slide

WriteTiff = Callable[..., Path]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SlideNotFoundError, match=r"no slide at '.*gone\.svs': check the path"):
        open_slide(tmp_path / "gone.svs")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        SlideFormatError,
        match=r"is no slide .*folder without DICOM.*: name a slide",
    ):
        open_slide(tmp_path)


@contextmanager
def without_rights() -> Iterator[None]:
    """Give up the administrator's rights for a while: nothing is forbidden to them."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_and_a_folder_without_permission() -> None:
    # pytest's own temporary folders can be entered by nobody else.
    with TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        file, folder = Path(parent, "a.svs"), Path(parent, "locked")
        file.write_bytes(b"secret")
        file.chmod(0)
        folder.mkdir(mode=0o000)
        with without_rights():
            for path in (file, folder, folder / "b.svs"):
                with pytest.raises(SlideAccessError, match="may not be read by this user: ask for"):
                    open_slide(path)
        folder.chmod(0o700)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.touch()
    with pytest.raises(SlideFormatError, match=r"'a\.svs' is empty \(0 bytes\)"):
        open_slide(path)


@pytest.mark.parametrize("content", [b"x", b"II*\0", b"this is no slide " * 99])
def test_a_text_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(content)
    with pytest.raises(SlideFormatError, match=r"'a\.svs' is not a slide that slideloom opens"):
        open_slide(path)


def test_the_content_decides_and_not_the_ending(tmp_path: Path, write_tiff: WriteTiff) -> None:
    png = cv2.imencode(".png", np.zeros((9, 9, 3), dtype=np.uint8))[1].tobytes()
    (tmp_path / "a.svs").write_bytes(png)
    with open_slide(tmp_path / "a.svs") as slide:
        assert slide.reader_name == "picture"
    with open_slide(write_tiff("b.png")) as slide:
        assert slide.reader_name == "tiff"


def test_an_unknown_reader(write_tiff: WriteTiff) -> None:
    with pytest.raises(
        SettingsError, match=r"no reader 'bioformats': choose one of tiff, zarr, ope"
    ):
        open_slide(write_tiff(), reader="bioformats")


def test_a_reader_by_name(write_tiff: WriteTiff) -> None:
    with open_slide(write_tiff(), reader="openslide") as slide:
        assert slide.reader_name == "openslide"
    with pytest.raises(SlideFormatError, match=r"'strips\.tif' is not a slide.*openslide: OpenSli"):
        open_slide(write_tiff("strips.tif", tile=None), reader="openslide")


def test_a_tiff_that_no_reader_serves_says_why(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((99, 99), np.complex64), tile=(32, 32))
    with pytest.raises(SlideFormatError, match=r"'a\.tif' is not a slide .*\(tiff: .*64 bits per"):
        open_slide(path)


def test_a_stack_is_not_read_as_its_first_plane(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    stack = np.zeros((5, 99, 99), np.uint8)
    tifffile.imwrite(path, stack, tile=(32, 32), metadata={"axes": "ZYX"})
    with pytest.raises(SlideFormatError, match=r"holds 5 focal planes.*: save the plane"):
        open_slide(path)
    with open_slide(path, reader="openslide") as slide:
        assert slide.size.shape == (99, 99)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"compression": "jpeg"}])
def test_a_truncated_tiff(
    write_pyramid: WriteTiff, tmp_path: Path, share: float, options: dict[str, Any]
) -> None:
    data = write_pyramid().read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: max(16, int(share * len(data)))])
    with pytest.raises(SlideFormatError, match=r"'cut\.svs'.*damaged or incomplete"):
        open_slide(path)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["CMU-1-Small-Region.svs", "tcga-cr-7395-01a-01-ts1.svs", "test3-DAPI-2-387.ndpi"]
)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_real_slide(data_dir: Path, tmp_path: Path, name: str, share: float) -> None:
    data = (data_dir / "slides" / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(SlideFormatError, match="damaged or incomplete"):
        open_slide(path)


def test_a_damaged_tile_is_named(write_tiff: WriteTiff, tmp_path: Path) -> None:
    path = write_tiff(compression="zstd")
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[6]
    data = bytearray(path.read_bytes())
    data[start : start + 8] = b"\0" * 8
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.read(Box(x0=0, y0=0, x1=64, y1=64)).shape == (64, 64, 3)
        with pytest.raises(SlideFormatError, match="damaged at level 0, tile row 1, col 1"):
            slide.read(Box(x0=100, y0=100, x1=110, y1=110))


def test_overwritten_tags_are_damage_and_nothing_else(write_tiff: WriteTiff) -> None:
    path = write_tiff(compression="jpeg")
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.offset
    clean, damaged = path.read_bytes(), 0
    for place in range(start, start + 180):
        data = bytearray(clean)
        data[place] ^= 0x55
        path.write_bytes(data)
        try:
            with open_slide(path) as slide:
                slide.thumbnail(50)
        except SlideFormatError:
            damaged += 1
    assert 40 < damaged < 180
