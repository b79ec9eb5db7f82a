import struct
from pathlib import Path

import pytest

from slideloom.errors import SlideFormatError
from slideloom.wsi import open_slide
from slideloom.wsi.readers.czi_check import check_czi
from tests.makers.pictures import smooth_picture
from tests.makers.zeiss import write_czi


@pytest.fixture
def czi(tmp_path: Path) -> Path:
    return write_czi(tmp_path / "a.czi", smooth_picture(300, 200))


def overwrite_first_stored_width(path: Path, stored: int) -> None:
    data = bytearray(path.read_bytes())
    entries = data.index(b"ZISRAWDIRECTORY") + 32 + 128
    struct.pack_into("<i", data, entries + 32 + 16, stored)
    path.write_bytes(data)


def test_sound_tiles_pass(czi: Path) -> None:
    check_czi(czi)


@pytest.mark.parametrize("stored", [0, -1, 129, 2**31 - 1])
def test_tiles_that_no_slide_has_are_refused(czi: Path, stored: int) -> None:
    overwrite_first_stored_width(czi, stored)
    with pytest.raises(SlideFormatError, match=f"tile 0 stores {stored} pixels for 128"):
        open_slide(czi)


@pytest.mark.parametrize("kept", [10, 60, 90])
def test_what_was_cut_off_is_left_to_openslide(czi: Path, kept: int) -> None:
    czi.write_bytes(czi.read_bytes()[:kept])
    check_czi(czi)


def test_a_directory_before_the_file_is_left_to_openslide(czi: Path) -> None:
    data = bytearray(czi.read_bytes())
    struct.pack_into("<q", data, 84, -99)
    czi.write_bytes(data)
    check_czi(czi)


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"no slide")
    check_czi(tmp_path / "a.svs")
