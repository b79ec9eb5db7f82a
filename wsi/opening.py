"""From a path to the reader that serves it, or to one sentence that says why none does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slideloom.errors import SettingsError, SlideFormatError, SlideNotFoundError
from slideloom.wsi.openslide_reader import OpenSlideReader
from slideloom.wsi.reader import NotServedError, Reader
from slideloom.wsi.tiff_reader import TiffReader

READERS: dict[str, Callable[[Path], Reader]] = {"tiff": TiffReader, "openslide": OpenSlideReader}
"""The readers, in the order in which they are tried."""


def open_reader(path: Path, name: str | None) -> Reader:
    """The first reader that serves `path`, or the one called `name`.

    Raises:
        SlideNotFoundError: There is no such file.
        SlideFormatError: No reader opens it, or it is damaged.
        SettingsError: No reader has that name.
    """
    check_name(name)
    _check_file(path)
    reasons = []
    for key in READERS if name is None else (name,):
        try:
            return READERS[key](path)
        except NotServedError as error:
            reasons.append(f"{key}: {error}")
    msg = (
        f"'{path.name}' is not a slide that slideloom opens ({'; '.join(reasons)}): give a "
        "whole-slide image, for example SVS, NDPI, MRXS, DICOM or a tiled TIFF"
    )
    raise SlideFormatError(msg)


def check_name(name: str | None) -> None:
    """Refuse a reader that does not exist."""
    if name is not None and name not in READERS:
        msg = f"there is no reader {name!r}: choose one of {', '.join(READERS)}"
        raise SettingsError(msg)


def _check_file(path: Path) -> None:
    if not path.exists():
        msg = f"there is no slide at '{path}': check the path"
        raise SlideNotFoundError(msg)
    if path.is_dir():
        msg = f"'{path.name}' is a folder, not a slide: name the slide's file inside it"
        raise SlideFormatError(msg)
    if path.stat().st_size == 0:
        msg = f"slide '{path.name}' is empty (0 bytes): copy or download it again"
        raise SlideFormatError(msg)
