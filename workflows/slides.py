"""Which slides a command means: files, URLs, globs, and what lies in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from slideloom.errors import SettingsError, SlideNotFoundError
from slideloom.wsi.readers.dicom_folder import dicom_slides
from slideloom.wsi.readers.ome_zarr.layout import holds_image
from slideloom.wsi.remote import ForbiddenError
from slideloom.wsi.remote_folder import (
    RemoteEntry,
    can_list,
    entry_at,
    has_pattern,
    list_folder,
    matching,
)
from slideloom.wsi.source import Source, file_name, parse_source, slide_name

SUFFIXES = frozenset(
    {
        ".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".tif", ".tiff",
        ".vms", ".vmu",
    }
)  # fmt: skip
"""Endings that are taken from folders. Pictures (PNG, JPEG) are taken by name or glob only: folders
of slides hold many that are none."""
_GROUPS = frozenset({"zarr.json", ".zgroup", ".zattrs"})
"""Files of an OME-Zarr, whatever its folder is called."""
_ZARR, _ZARR_ZIP, _DICOM = ".zarr", ".zarr.zip", ".dcm"
_HIDDEN = "."
"""Such names are those of unfinished work, and of what macOS puts beside files."""


def find_slides(paths: Sequence[str | Path]) -> list[Source]:
    """Slides named one by one, and those in folders; also in folders of object stores.

    A folder that is an OME-Zarr is a slide; label images without their slide, such as those of a
    result, are not. The DICOM files of one series are one slide: the folder, where it holds no
    other series, or else the file of the finest level.

    Raises:
        SlideNotFoundError: A path names nothing.
        SlideAccessError: An object store does not tell what it holds.
        SettingsError: Nothing was found, or two slides would share an output folder.
    """
    found: list[Source] = []
    for given in paths:
        path = parse_source(given)
        if isinstance(path, str):
            found += _behind(path)
        elif path.exists():
            found += _slides_at(path)
        elif any(mark in str(path) for mark in "*?["):
            matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
            series = [path for path in matches if path.suffix.lower() == _DICOM]
            found += [slide.finest for slide in dicom_slides(series)]
            for match in matches:
                if match.suffix.lower() != _DICOM:
                    found += _slides_at(match)
        else:
            msg = f"there is no slide or folder '{path}': check the path"
            raise SlideNotFoundError(msg)
    found = list(dict.fromkeys(found))
    _check_names(found, paths)
    return found


def _behind(url: str) -> list[str]:
    """The slides that a URL names; a web server names none but the one that is asked for."""
    if not can_list(url):
        return [url]
    if has_pattern(url):
        return [slide for entry in matching(url) for slide in _remote_slides(entry)]
    if _is_called_slide(file_name(url)) or url.lower().endswith(_ZARR):
        return [url]
    try:
        entry = entry_at(url)
    except ForbiddenError:
        # Who may not list a bucket may yet read a slide in it: opening it tells.
        return [url]
    if entry is None:
        msg = f"there is no slide or folder '{url}': check the address"
        raise SlideNotFoundError(msg)
    return list(_remote_slides(entry))


def _remote_slides(entry: RemoteEntry) -> Iterator[str]:
    """The slide that an entry is, or those below it, folder by folder, as on this machine."""
    if not entry.is_folder or entry.is_zarr:
        yield entry.url
        return
    inside = list_folder(entry.url)
    if any(item.name in _GROUPS for item in inside):
        yield entry.url
        return
    shown = [item for item in inside if item.name[0] != _HIDDEN]
    files = [item for item in shown if not item.is_folder and _is_called_slide(item.name)]
    slides = [item.url for item in files if not item.name.lower().endswith(_DICOM)]
    series = [item.url for item in files if item.name.lower().endswith(_DICOM)]
    slides += series if len(series) == 1 else []
    slides += [item.url for item in shown if item.is_zarr and holds_image(item.url)]
    if len(series) > 1:
        # Not read from there: opening the folder, which stands for all of them, says so.
        slides.append(entry.url)
    yield from sorted(slides)
    for item in shown:
        if item.is_folder and not item.is_zarr:
            yield from _remote_slides(item)


def _is_called_slide(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES or name.lower().endswith(_ZARR_ZIP)


def _slides_at(path: Path) -> list[Path]:
    is_folder = path.is_dir() and path.suffix.lower() != _ZARR
    return list(_in_folder(path)) if is_folder else [path]


def _in_folder(folder: Path) -> Iterator[Path]:
    """The slides below `folder`, folder by folder; not what is hidden or inside an OME-Zarr.

    Links to folders are followed, into each folder once.
    """
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (place := Path(parent).resolve()) in seen:
            folders.clear()
            continue
        seen.add(place)
        shown = sorted(name for name in folders if name[0] != _HIDDEN)
        stores = [Path(parent, name) for name in shown if name.lower().endswith(_ZARR)]
        folders[:] = [name for name in shown if not name.lower().endswith(_ZARR)]
        here = [Path(parent, name) for name in sorted(files) if name[0] != _HIDDEN]
        slides = [path for path in here if path.suffix.lower() in SUFFIXES - {_DICOM}]
        slides += [path for path in here if path.name.lower().endswith(_ZARR_ZIP)]
        series = dicom_slides(path for path in here if path.suffix.lower() == _DICOM)
        if len(series) == 1 and len(series[0].files) > 1:
            # Its levels are often called alike in every folder; the folder has the case's name.
            slides.append(Path(parent))
        else:
            slides += [slide.finest for slide in series]
        slides += [path for path in stores if holds_image(path)]
        yield from sorted(slides)


def _check_names(found: list[Source], paths: Sequence[str | Path]) -> None:
    if not found:
        asked = ", ".join(f"'{path}'" for path in paths)
        endings = " ".join(sorted({*SUFFIXES, _ZARR, _ZARR_ZIP}))
        msg = (
            f"no slides in {asked}: endings that are taken from folders are {endings}; name "
            "pictures (PNG, JPEG) one by one or by a glob"
        )
        raise SettingsError(msg)
    by_name: dict[str, Source] = {}
    for path in found:
        other = by_name.setdefault(slide_name(path), path)
        if other is not path:
            msg = (
                f"slides '{other}' and '{path}' would both write to '{slide_name(path)}': "
                "run them into different --out folders, or list them in a CSV with the columns "
                "path and id, and give each an id of its own"
            )
            raise SettingsError(msg)
