"""DICOM slides in a folder: one slide is a series of files, one for each level and label.

Standard: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.32.8.html
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from slideloom.errors import SlideFormatError
from slideloom.wsi.readers.reader import NotServedError

_MAGIC_AT, _MAGIC = 128, b"DICM"
_ENDING = ".dcm"
_TAGS = ["SOPClassUID", "SeriesInstanceUID", "ImageType", "TotalPixelMatrixColumns"]
_FLAVOUR = 2
_LEVEL = "VOLUME"
"""Place in `ImageType` that says what is shown, and its word for a level; others are LABEL..."""

_NONSENSE = (
    InvalidDicomError,
    BytesLengthException,
    UserWarning,
    NotImplementedError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    struct.error,
)
"""What parsing raises on a damaged header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSlide:
    """One series.

    Attributes:
        finest: The file of its finest level, which stands for the slide.
        files: All its files, sorted.
    """

    finest: Path
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What a file says of its place in a series; `width` is 0 for what is no level of a slide."""

    series: str
    width: int


def dicom_slides(files: Iterable[Path]) -> list[DicomSlide]:
    """The slides that `files` make up, in the order of their finest files.

    Series without a whole-slide level are left out. A file whose header cannot be read stands
    for a slide of its own, so that opening it tells what is wrong.
    """
    members: dict[str, list[Path]] = {}
    finest: dict[str, tuple[int, Path]] = {}
    for path in sorted(files):
        header = _read_header(path) or _Header(series=str(path), width=1)
        members.setdefault(header.series, []).append(path)
        if header.width > finest.get(header.series, (0, path))[0]:
            finest[header.series] = (header.width, path)
    slides = [
        DicomSlide(finest=path, files=tuple(members[series]))
        for series, (_, path) in finest.items()
    ]
    return sorted(slides, key=lambda slide: slide.finest)


def series_of(path: Path) -> tuple[Path, ...]:
    """All files of the series of `path`, sorted; only itself where it is no DICOM file."""
    if not _is_dicom(path):
        return (path,)
    for slide in dicom_slides(_dicom_files(path.parent)):
        if path in slide.files:
            return slide.files
    return (path,)


def _dicom_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and _is_dicom(path)]


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() == _ENDING:
        return True
    with path.open("rb") as file:
        return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


def _read_header(path: Path) -> _Header | None:
    try:
        with warnings.catch_warnings():
            # pydicom warns of damage that it reads past; here it counts as damage.
            warnings.simplefilter("error")
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
            if found["SOPClassUID"].value not in (VLWholeSlideMicroscopyImageStorage, ""):
                # Annotations and segmentations may lie beside their slide.
                return _Header(series=str(path), width=0)
            kind = [str(word) for word in found["ImageType"].value]
            width = int(found["TotalPixelMatrixColumns"].value)
            series = str(found["SeriesInstanceUID"].value)
    except _NONSENSE:
        return None
    return _Header(series=series, width=width if kind[_FLAVOUR : _FLAVOUR + 1] == [_LEVEL] else 0)


def one_slide_of(folder: Path) -> Path:
    """The file that stands for the one DICOM slide of `folder`.

    Raises:
        NotServedError: The folder holds no DICOM file.
        SlideFormatError: It holds several slides, or none with a level.
    """
    files = _dicom_files(folder)
    if not files:
        msg = "it is a folder without DICOM files"
        raise NotServedError(msg)
    slides = dicom_slides(files)
    if len(slides) == 1:
        return slides[0].finest
    if slides:
        names = ", ".join(slide.finest.name for slide in slides)
        msg = (
            f"folder '{folder.name}' holds {len(files)} DICOM files of {len(slides)} slides "
            f"({names}), not of one: name the file of one slide"
        )
    else:
        msg = (
            f"folder '{folder.name}' holds {len(files)} DICOM files and none of them is a level "
            "of a slide (ImageType VOLUME): copy all files of the series there"
        )
    raise SlideFormatError(msg)
