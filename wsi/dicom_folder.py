"""DICOM slides in a folder: one slide is a series of files, one for each level and label.

Standard: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.32.8.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from slideloom.errors import SlideFormatError
from slideloom.wsi.reader import NotServedError

_MAGIC_AT, _MAGIC = 128, b"DICM"
_TAGS = ["SeriesInstanceUID", "ImageType", "TotalPixelMatrixColumns"]
_FLAVOUR = 2
"""Place in `ImageType` that says VOLUME, LABEL, OVERVIEW or THUMBNAIL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomSlide:
    """One series.

    Attributes:
        finest: The file of its finest level, which stands for the slide.
        files: All its files, sorted.
    """

    finest: Path
    files: tuple[Path, ...]


def is_dicom(path: Path) -> bool:
    """Whether a file says of itself that it is DICOM."""
    with path.open("rb") as file:
        return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


def dicom_slides(files: Iterable[Path]) -> list[DicomSlide]:
    """The slides that `files` make up, in the order of their finest files.

    Series without a whole-slide level are left out. A file that cannot be parsed stands
    for a slide of its own, so that opening it tells what is wrong.
    """
    members: dict[str, list[Path]] = {}
    finest: dict[str, tuple[int, Path]] = {}
    for path in sorted(files):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        except (InvalidDicomError, ValueError, OSError, EOFError):
            members[str(path)] = [path]
            finest[str(path)] = (0, path)
            continue
        series = str(header.get("SeriesInstanceUID", path))
        members.setdefault(series, []).append(path)
        kind = [str(word) for word in header.get("ImageType") or ()]
        width = int(header.get("TotalPixelMatrixColumns") or 0)
        if kind[_FLAVOUR : _FLAVOUR + 1] == ["VOLUME"] and width > finest.get(series, (0, path))[0]:
            finest[series] = (width, path)
    slides = [
        DicomSlide(finest=path, files=tuple(members[series]))
        for series, (_, path) in finest.items()
    ]
    return sorted(slides, key=lambda slide: slide.finest)


def one_slide_of(folder: Path) -> Path:
    """The file that stands for the one DICOM slide of `folder`.

    Raises:
        NotServedError: The folder holds no DICOM file.
        SlideFormatError: It holds several slides, or none with a level.
    """
    files = [path for path in folder.iterdir() if path.is_file() and is_dicom(path)]
    if not files:
        msg = "it is a folder without DICOM files"
        raise NotServedError(msg)
    slides = dicom_slides(files)
    if len(slides) == 1:
        return slides[0].finest
    names = ", ".join(slide.finest.name for slide in slides) or "none"
    msg = (
        f"folder '{folder.name}' holds {len(files)} DICOM files and {len(slides)} slides "
        f"({names}), not one: name the file of one slide"
    )
    raise SlideFormatError(msg)
