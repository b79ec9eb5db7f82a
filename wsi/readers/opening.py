"""From a path or URL to the reader that serves it, or to one sentence that says why none does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from slideloom.errors import (
    SettingsError,
    SlideAccessError,
    SlideFormatError,
    SlideNotFoundError,
)
from slideloom.wsi.fetched import copies_held
from slideloom.wsi.readers.ome_zarr.reader import ZarrReader
from slideloom.wsi.readers.openslide_reader import OpenSlideReader
from slideloom.wsi.readers.picture_reader import PictureReader
from slideloom.wsi.readers.reader import (
    NoFileError,
    NotServedError,
    NowhereServedError,
    Reader,
)
from slideloom.wsi.readers.tiff.reader import TiffReader
from slideloom.wsi.remote import open_filesystem
from slideloom.wsi.source import Source, file_name

READERS: dict[str, Callable[[Source], Reader]] = {
    "tiff": TiffReader,
    "zarr": ZarrReader,
    "openslide": OpenSlideReader,
    "picture": PictureReader,
}
"""The readers, in the order in which they are tried."""


_FOLDERS = "zarr"
"""The reader of folders behind URLs."""


def open_reader(source: Source, name: str | None) -> Reader:
    """The first reader that serves `source`, or the one called `name`.

    Raises:
        SlideNotFoundError: There is nothing there.
        SlideAccessError: It may not be read.
        SlideFormatError: No reader opens it, or it is damaged.
        SettingsError: No reader has that name.
    """
    check_name(name)
    if isinstance(source, Path):
        _check_path(source)
    else:
        _check_url(source)
    reasons: list[str] = []
    with copies_held():
        keys = list(READERS) if name is None else [name]
        while keys:
            key = keys.pop(0)
            try:
                return READERS[key](source)
            except NotServedError as error:
                reasons.append(f"{key}: {error}")
                keys = _left_after(error, keys, is_url=isinstance(source, str))
            except SlideAccessError:
                raise
            except PermissionError as error:
                raise _no_access(source) from error
    if isinstance(source, Path) and source.is_dir():
        msg = f"folder '{source}' is no slide ({'; '.join(reasons)}): name a slide in it"
        raise SlideFormatError(msg)
    msg = (
        f"'{file_name(source)}' is not a slide that slideloom opens ({'; '.join(reasons)}): give a "
        "whole-slide image, for example SVS, NDPI, MRXS, DICOM, OME-Zarr or a tiled TIFF"
    )
    raise SlideFormatError(msg)


def _left_after(error: NotServedError, keys: list[str], *, is_url: bool) -> list[str]:
    """The readers that may serve what another one did not; a URL is a file or a folder."""
    if isinstance(error, NowhereServedError):
        return []
    if isinstance(error, NoFileError):
        return [key for key in keys if key == _FOLDERS]
    return [key for key in keys if key != _FOLDERS] if is_url else keys


def check_name(name: str | None) -> None:
    """Refuse a reader that does not exist."""
    if name is not None and name not in READERS:
        msg = f"there is no reader {name!r}: choose one of {', '.join(READERS)}"
        raise SettingsError(msg)


def _check_path(path: Path) -> None:
    try:
        size = path.stat().st_size
    except PermissionError as error:
        raise _no_access(path) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"there is no slide at '{path}': check the path"
        raise SlideNotFoundError(msg) from error
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        raise _no_access(path)
    if size == 0 and path.is_file():
        msg = f"slide '{path.name}' is empty (0 bytes): copy or download it again"
        raise SlideFormatError(msg)


def _check_url(url: str) -> None:
    try:
        open_filesystem(url)
    except SettingsError as error:
        raise SlideFormatError(str(error)) from error


def _no_access(source: Source) -> SlideAccessError:
    return SlideAccessError(
        f"slide '{source}' may not be read by this user: ask for permission to read it, "
        "and to enter its folder"
    )
