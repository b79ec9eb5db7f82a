"""Where an OME-Zarr keeps its slide: the group of the image, and the arrays of its levels.

Specifications: https://ngff.openmicroscopy.org/0.4/ and https://ngff.openmicroscopy.org/0.5/
(sections "multiscales" and "bioformats2raw.layout"), and those of zarr 2 and 3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import zarr
from zarr.storage import StorePath

from slideloom.errors import SlideFormatError, SlideNotFoundError
from slideloom.wsi.geometry import Level, Mpp, Size
from slideloom.wsi.readers.ome_zarr.ngff import damaged, parse_image
from slideloom.wsi.readers.ome_zarr.store import ZarrFiles, open_files
from slideloom.wsi.readers.reader import NotServedError, level_downsample
from slideloom.wsi.source import Source

_CHUNK_BYTES = 2**31
_LONGEST_SIDE = 2**31
_MOST_CHANNELS = 4096
_METADATA_ERRORS = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
"""What zarr raises on the metadata of an array that makes no sense."""


class _LabelsError(SlideFormatError):
    """An OME-Zarr of labels, without the slide that they belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A group's place in the store, its attributes, and the bytes that say so."""

    path: str
    zarr_format: int
    attributes: Mapping[str, Any]
    documents: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrLayout:
    """The slide in a store.

    Attributes:
        arrays: One per level, finest first.
        levels: Their sizes; a tile is one chunk, the inner one where chunks lie in shards.
        axes: What the arrays' axes are, in their order: letters of `tczyx`.
        channels: Their names.
        mpp: Micrometres per level-0 pixel, None where the axes have no unit of length.
        properties: The attributes of the image, objects in them as JSON.
        documents: The metadata as stored.
    """

    arrays: tuple[zarr.Array[Any], ...]
    levels: tuple[Level, ...]
    axes: str
    channels: tuple[str, ...]
    mpp: Mpp | None
    properties: Mapping[str, str]
    documents: tuple[bytes, ...]


def read_layout(files: ZarrFiles) -> ZarrLayout:
    """Find the slide in `files`: the image at its root, or the first of a bioformats2raw store.

    Raises:
        NotServedError: It is no OME-Zarr.
        SlideNotFoundError: There is nothing at the URL.
        SlideFormatError: It is one, and it is damaged or holds no slide.
    """
    group = _image_group(files)
    ome = _ome(group)
    image = parse_image(ome, files.title)
    axes = image.axes
    arrays, documents = _open_arrays(files, group, paths=image.paths)
    for array in arrays:
        _check_array(array, arrays[0], axes=axes, title=files.title)
    properties = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in ome.items()
    }
    return ZarrLayout(
        arrays=arrays,
        levels=_levels(arrays, axes, title=files.title),
        axes=axes,
        channels=image.channels(_lengths(arrays[0], axes).get("c"), arrays[0].dtype),
        mpp=image.mpp,
        properties={"zarr_format": str(group.zarr_format), **properties},
        documents=(*group.documents, *documents),
    )


def holds_image(folder: Source) -> bool:
    """Whether a folder is an OME-Zarr of more than labels; a damaged one counts as one."""
    try:
        _image_group(open_files(folder))
    except (NotServedError, SlideNotFoundError, _LabelsError):
        return False
    except (SlideFormatError, PermissionError):
        return True
    return True


def _image_group(files: ZarrFiles) -> _Group:
    root = _group(files, "")
    if root is None:
        if files.is_url:
            msg = (
                f"there is no slide at '{files.title}', neither a file nor an OME-Zarr: check the "
                "address (folders of other formats, such as DICOM, are read from this machine only)"
            )
            raise SlideNotFoundError(msg)
        msg = "it holds no metadata of zarr"
        raise NotServedError(msg)
    group = root
    if "bioformats2raw.layout" in _ome(root) and "multiscales" not in _ome(root):
        group = _first_image(files)
    _check_is_slide(files, group)
    return group


def _first_image(files: ZarrFiles) -> _Group:
    series = _group(files, "OME")
    names = None if series is None else _ome(series).get("series")
    first = str(names[0]) if isinstance(names, list) and names else "0"
    group = _group(files, first)
    if group is None:
        msg = (
            f"slide '{files.title}' is a bioformats2raw store without its image '{first}': "
            "copy or download it again"
        )
        raise SlideFormatError(msg)
    return group


def _check_is_slide(files: ZarrFiles, group: _Group) -> None:
    ome = _ome(group)
    if "plate" in ome or "well" in ome:
        msg = (
            f"'{files.title}' is a plate of many images, not one slide: "
            "give one of its fields, such as PLATE/A/1/0"
        )
        raise SlideFormatError(msg)
    if "image-label" in ome:
        msg = f"'{files.title}' is a label image, not a slide: give the slide that it was made from"
        raise _LabelsError(msg)
    if "multiscales" in ome:
        return
    if "labels" in ome or _group(files, "labels") is not None:
        msg = f"'{files.title}' holds label images only: give the slide that they were made from"
        raise _LabelsError(msg)
    msg = "it is a zarr without the 'multiscales' metadata of OME-NGFF"
    raise NotServedError(msg)


def _group(files: ZarrFiles, path: str) -> _Group | None:
    """The group at `path`; an array counts as a group without attributes."""
    _check_path(path, files)
    keys = [files.key(path, name) for name in ("zarr.json", ".zattrs", ".zgroup", ".zarray")]
    found = files.fetch(keys)
    documents = tuple(found[key] for key in keys if key in found)
    if not found:
        return None
    if keys[0] in found:
        document = _json(found, keys[0], title=files.title)
        attributes = document.get("attributes", {})
        if not isinstance(attributes, dict):
            raise damaged(files.title, f"its '{keys[0]}' has attributes that are no JSON object")
        return _Group(path=path, zarr_format=3, attributes=attributes, documents=documents[:1])
    attributes = _json(found, keys[1], title=files.title) if keys[1] in found else {}
    return _Group(path=path, zarr_format=2, attributes=attributes, documents=documents)


def _ome(group: _Group) -> Mapping[str, Any]:
    """The metadata of OME: below `ome` since 0.5, the attributes themselves before."""
    inner = group.attributes.get("ome", group.attributes)
    return inner if isinstance(inner, dict) else {}


def _open_arrays(
    files: ZarrFiles, group: _Group, *, paths: Sequence[str]
) -> tuple[tuple[zarr.Array[Any], ...], tuple[bytes, ...]]:
    """The arrays, from their documents alone: a server is asked once per level."""
    name = "zarr.json" if group.zarr_format == 3 else ".zarray"
    for path in paths:
        _check_path(path, files)
    keys = [files.key(group.path, path, name) for path in paths]
    found = files.fetch(keys)
    arrays = []
    for path, key in zip(paths, keys, strict=True):
        if key not in found:
            raise damaged(files.title, f"its level '{path}' is named in the metadata and missing")
        document = _json(found, key, title=files.title)
        place = StorePath(files.store, files.key(group.path, path))
        try:
            arrays.append(zarr.Array.from_dict(place, document))
        except _METADATA_ERRORS as error:
            raise damaged(files.title, f"its '{key}' cannot be used ({error!r})") from error
    return tuple(arrays), tuple(found[key] for key in keys)


def _check_array(array: zarr.Array[Any], first: zarr.Array[Any], *, axes: str, title: str) -> None:
    place = f"its array '{array.path}' of shape {array.shape} and type {array.dtype}"
    if len(array.shape) != len(axes) or min(*array.shape, *array.chunks) < 1:
        raise damaged(title, f"{place} does not fit the axes '{axes}'")
    lengths = _lengths(array, axes)
    if array.dtype != first.dtype or lengths.get("c") != _lengths(first, axes).get("c"):
        raise damaged(title, f"{place} does not fit its level 0")
    if lengths.get("c", 1) > _MOST_CHANNELS or max(lengths.values()) > _LONGEST_SIDE:
        raise damaged(title, f"{place} is larger than any slide")
    msg = None
    planes = max(lengths.get("t", 1), lengths.get("z", 1))
    if planes > 1:
        msg = (
            f"slide '{title}' has {planes} planes along time or depth, and one plane is read: "
            "save the plane that you need on its own"
        )
    elif array.dtype.kind != "u" and array.dtype.newbyteorder("=") != np.float32:
        msg = (
            f"slide '{title}' stores pixels of type {array.dtype}, and unsigned integers and "
            "float32 are read: convert it"
        )
    elif math.prod(array.chunks) * array.dtype.itemsize > _CHUNK_BYTES:
        msg = (
            f"slide '{title}' is stored in chunks of {array.chunks} pixels, more than 2 GiB each: "
            "write it anew in chunks of about 1024 x 1024"
        )
    if msg is not None:
        raise SlideFormatError(msg)


def _lengths(array: zarr.Array[Any], axes: str) -> dict[str, int]:
    return dict(zip(axes, array.shape, strict=True))


def _levels(arrays: Sequence[zarr.Array[Any]], axes: str, *, title: str) -> tuple[Level, ...]:
    y, x = axes.index("y"), axes.index("x")
    sizes = [Size(width=array.shape[x], height=array.shape[y]) for array in arrays]
    for finer, coarser in pairwise(sizes):
        if coarser.width > finer.width or coarser.height > finer.height:
            raise damaged(title, f"its levels are out of order ({finer} comes before {coarser})")
    return tuple(
        Level(
            size=size,
            downsample=level_downsample(sizes[0], size),
            tile=Size(
                width=min(array.chunks[x], size.width), height=min(array.chunks[y], size.height)
            ),
        )
        for size, array in zip(sizes, arrays, strict=True)
    )


def _json(found: Mapping[str, bytes], key: str, *, title: str) -> dict[str, Any]:
    try:
        document = json.loads(found[key])
    except (ValueError, RecursionError) as error:
        raise damaged(title, f"its '{key}' is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise damaged(title, f"its '{key}' is no JSON object")
    return document


def _check_path(path: str, files: ZarrFiles) -> None:
    if ".." in path.split("/"):
        raise damaged(files.title, f"its metadata leads out of it, to '{path}'")
