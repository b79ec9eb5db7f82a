"""MIRAX MRXS: a small picture beside a folder with an INI file, an index and JPEG tiles.

Format: https://openslide.org/formats/mirax/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from tests.makers.pictures import Picture, jpeg, mosaic, padded, shrunk

IMAGE_PX = 64
GRID_COLS, GRID_ROWS = 16, 12
LEVELS = 3
SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
_INDEX_VERSION = "01.02"


@dataclass
class _Record:
    """Where a stored image lies in the data file."""

    number: int
    offset: int
    length: int


@dataclass
class _DataFile:
    """The bytes of `Data0000.dat`, and where each image went."""

    data: bytearray = field(default_factory=bytearray)

    def add(self, number: int, content: bytes) -> _Record:
        record = _Record(number=number, offset=len(self.data), length=len(content))
        self.data += content
        return record


def write_mirax(
    path: Path,
    picture: Picture,
    *,
    col: int = 3,
    row: int = 2,
    mpp: float = 0.25,
    overlap_px: int = 0,
    macro: Picture | None = None,
) -> Path:
    """Write `picture` at image `col, row` of a grid of 16 x 12 images of 64 x 64 pixels.

    Neighbouring images share `overlap_px`, which has to be a multiple of 4. Only images that
    the picture touches are stored: the others were not scanned. Each of the 3 levels has half the
    size of the one before. `path` ends in `.mrxs`; the companion folder has its name without the
    ending.
    """
    step = IMAGE_PX - overlap_px
    size = {"width": GRID_COLS * step + overlap_px, "height": GRID_ROWS * step + overlap_px}
    canvas = padded(picture, **size, x=col * step, y=row * step)
    photos = mosaic(canvas, IMAGE_PX, overlap_px=overlap_px)
    last_col = col + -(-(picture.shape[1] - overlap_px) // step)
    last_row = row + -(-(picture.shape[0] - overlap_px) // step)
    scanned = [(c, r) for r in range(row, last_row) for c in range(col, last_col)]
    store = _DataFile(bytearray(b"test data file" + bytes(242)))
    pages = [_store_level(store, photos, level=level, scanned=scanned) for level in range(LEVELS)]
    extra = [] if macro is None else [store.add(0, jpeg(macro))]
    folder = path.with_suffix("")
    folder.mkdir()
    (folder / "Data0000.dat").write_bytes(store.data)
    (folder / "Index.dat").write_bytes(_index(pages, extra))
    (folder / "Slidedat.ini").write_text(
        _slidedat(mpp, overlap_px=overlap_px, has_macro=macro is not None)
    )
    path.write_bytes(jpeg(shrunk(canvas, 16)))
    return path


def _store_level(
    store: _DataFile, photos: Picture, *, level: int, scanned: list[tuple[int, int]]
) -> list[_Record]:
    """A coarser image stands where the first of the images that it joins stands in the grid."""
    joined = 2**level
    pixels = shrunk(photos, joined)
    corners = sorted({(row // joined, col // joined) for col, row in scanned})
    records = []
    for row, col in corners:
        y, x = row * IMAGE_PX, col * IMAGE_PX
        number = row * joined * GRID_COLS + col * joined
        records.append(store.add(number, jpeg(pixels[y : y + IMAGE_PX, x : x + IMAGE_PX])))
    return records


def _index(pages: list[list[_Record]], extra: list[_Record]) -> bytes:
    """Version and id, two roots, and chains of pages that end at once."""
    head = (_INDEX_VERSION + SLIDE_ID).encode("ascii")
    out = bytearray(head + bytes(8))
    levels = []
    for records in pages:
        page = _append(out, len(records), 0)
        for item in records:
            _append(out, item.number, item.offset, item.length, 0)
        levels.append(_append(out, 0, page))
    images = []
    for item in extra:
        page = _append(out, 1, 0, 0, 0, item.offset, item.length, 0)
        images.append(_append(out, 0, page))
    struct.pack_into("<ii", out, len(head), _append(out, *levels), _append(out, *images))
    return bytes(out)


def _append(out: bytearray, *numbers: int) -> int:
    """Add 32-bit numbers, and say where the first of them is."""
    place = len(out)
    out += struct.pack(f"<{len(numbers)}i", *numbers)
    return place


def _slidedat(mpp: float, *, overlap_px: int, has_macro: bool) -> str:
    lines = [
        "[GENERAL]",
        "SLIDE_VERSION = 01.02",
        f"SLIDE_ID = {SLIDE_ID}",
        f"IMAGENUMBER_X = {GRID_COLS}",
        f"IMAGENUMBER_Y = {GRID_ROWS}",
        "OBJECTIVE_MAGNIFICATION = 40",
        "[HIERARCHICAL]",
        "HIER_COUNT = 1",
        f"NONHIER_COUNT = {int(has_macro)}",
        "INDEXFILE = Index.dat",
        "HIER_0_NAME = Slide zoom level",
        f"HIER_0_COUNT = {LEVELS}",
        *(f"HIER_0_VAL_{i}_SECTION = LAYER_0_LEVEL_{i}_SECTION" for i in range(LEVELS)),
    ]
    if has_macro:
        lines += [
            "NONHIER_0_NAME = Scan data layer",
            "NONHIER_0_COUNT = 1",
            "NONHIER_0_VAL_0 = ScanDataLayer_SlideThumbnail",
            "NONHIER_0_VAL_0_SECTION = NONHIERLAYER_0_LEVEL_0_SECTION",
            "[NONHIERLAYER_0_LEVEL_0_SECTION]",
            "THUMBNAIL_IMAGE_TYPE = JPEG",
        ]
    lines += ["[DATAFILE]", "FILE_COUNT = 1", "FILE_0 = Data0000.dat"]
    for level in range(LEVELS):
        lines += [
            f"[LAYER_0_LEVEL_{level}_SECTION]",
            f"IMAGE_CONCAT_FACTOR = {min(level, 1)}",
            f"OVERLAP_X = {overlap_px // 2**level}",
            f"OVERLAP_Y = {overlap_px // 2**level}",
            f"MICROMETER_PER_PIXEL_X = {mpp * 2**level}",
            f"MICROMETER_PER_PIXEL_Y = {mpp * 2**level}",
            "IMAGE_FORMAT = JPEG",
            "IMAGE_FILL_COLOR_BGR = 16777215",
            f"DIGITIZER_WIDTH = {IMAGE_PX}",
            f"DIGITIZER_HEIGHT = {IMAGE_PX}",
        ]
    return "\n".join(lines) + "\n"
