"""Label images on disk: OME-NGFF 0.5 (zarr 3), written region by region, read lazily.

The store holds one label image per name:

    labels.ome.zarr/labels/NAME/{0,1,2,...}     level 0 is the finest; axes (y, x)

The slide itself is not in it, so viewers open `labels.ome.zarr/labels` or one of its images.
`copy_labels` writes the same in OME-NGFF 0.4 (zarr 2).

Specifications: https://ngff.openmicroscopy.org/0.5/ and https://ngff.openmicroscopy.org/0.4/
(sections 2.4 multiscales and 2.5 or 2.6 labels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ContainsGroupError, GroupNotFoundError

from slideloom.errors import OutputError, RegionError, SettingsError
from slideloom.wsi.geometry import Box, Size
from slideloom.wsi.storage import Folder, in_parallel
from slideloom.wsi.writing.ome_store import (
    OmeVersion,
    array_keys,
    ome_metadata,
    set_ome_metadata,
    zarr_format,
)
from slideloom.wsi.writing.pyramid import pyramid_sizes
from slideloom.wsi.writing.zarr_place import is_remote, request_threads, zarr_place

_GROUP = "labels"
UNSEARCHED: Any = {"write_empty_chunks": True}
"""zarr does not look for chunks that hold nothing, which takes it four times as long as writing
them; `write_chunks` leaves them out."""
_ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelClass:
    """What a pixel value means.

    Attributes:
        value: The pixel value, at least 1; 0 is background.
        name: The class.
        color: `(r, g, b)`, 0 to 255.
    """

    value: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelImage:
    """One label image of a store.

    Attributes:
        name: Its folder's name: letters, digits, `-`, `_` and inner dots.
        dtype: `uint8` for classes, `uint32` for instances.
        classes: What the values mean. Empty for instances, whose rows live in the object table.
    """

    name: str
    dtype: Literal["uint8", "uint32"]
    classes: tuple[LabelClass, ...] = ()

    def __post_init__(self) -> None:
        plain = self.name.replace("-", "").replace("_", "").replace(".", "")
        if not plain.isalnum() or self.name[0] == ".":
            msg = (
                f"a label image cannot be called {self.name!r}: "
                "use letters, digits, '-', '_' and inner dots"
            )
            raise SettingsError(msg)

    @property
    def title(self) -> str:
        """What viewers call it: the class, where it shows only one, or else its name."""
        return self.classes[0].name if len(self.classes) == 1 else self.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredLabels:
    """A label image of a store.

    Attributes:
        image: Its name and what its values mean.
        mpp: Micrometres per pixel of level 0.
        levels: Arrays `(y, x)`, finest first; each has every second pixel of the one before.
    """

    image: LabelImage
    mpp: float
    levels: tuple[zarr.Array[Any], ...]


def create_labels(
    store: Folder,
    images: Sequence[LabelImage],
    *,
    size: Size,
    mpp: float,
    chunk_px: int = 1024,
    version: OmeVersion = "0.5",
) -> tuple[zarr.Array[Any], ...]:
    """Lay out a new store and give the level-0 arrays `(y, x)`, in the order of `images`.

    All pixels start as 0. Threads and processes may write at once, each to whole chunks of
    `chunk_px`. The metadata is valid from the start; `finish_labels` adds the coarser levels.

    Raises:
        OutputError: The store exists already.
        SettingsError: No images, two of one name, or a chunk below one pixel.
    """
    names = [image.name for image in images]
    if not names or len(set(names)) < len(names) or chunk_px < 1:
        msg = f"labels need different names and chunk_px >= 1, got {names} and {chunk_px}"
        raise SettingsError(msg)
    try:
        root = zarr.create_group(zarr_place(store), zarr_format=zarr_format(version))
    except ContainsGroupError as error:
        msg = f"'{store.name}' exists already: remove it, or choose another output folder"
        raise OutputError(msg) from error
    set_ome_metadata(root, {})
    labels = root.create_group(_GROUP)
    arrays = []
    for image in images:
        group = labels.create_group(image.name)
        set_ome_metadata(group, _metadata(image, mpp=mpp))
        arrays.append(_create_level(group, size, level=0, dtype=image.dtype, chunk_px=chunk_px))
    set_ome_metadata(labels, {"labels": names})
    return tuple(arrays)


def write_chunks(array: zarr.Array[Any], pixels: NDArray[Any], *, box: Box) -> None:
    """Write pixels to a new array; chunks that hold nothing take no file.

    Args:
        array: `(..., y, x)`, of which nothing is written yet.
        pixels: `(y, x)`, or `(..., y, x)` as the array.
        box: Where the pixels lie: it starts at a chunk's corner and holds whole chunks, or all
            that there is of them at the array's edge.
    """
    side = array.chunks[-1]
    writes = []
    for y, x in product(range(0, box.height, side), range(0, box.width, side)):
        part = pixels[..., y : y + side, x : x + side]
        if part.any():
            height, width = part.shape[-2:]
            rows = slice(box.y0 + y, box.y0 + y + height)
            window = (..., rows, slice(box.x0 + x, box.x0 + x + width))
            writes.append(partial(array.__setitem__, window, part))
    if is_remote(array):
        in_parallel(writes)
    else:
        for write in writes:
            write()


def open_labels(store: Folder, name: str, *, level: int = 0) -> zarr.Array[Any]:
    """The array `(y, x)` of one level, to read or to write on where a run stopped.

    Raises:
        OutputError: There is no such store, label image or level.
    """
    array = _open_image(store, name).get(str(level))
    if not isinstance(array, zarr.Array):
        msg = f"label image {name!r} in '{store.name}' has no level {level}"
        raise OutputError(msg)
    return array


def read_labels(store: Folder, name: str, *, level: int = 0) -> da.Array:
    """One level of a label image as a lazy `(y, x)` dask array.

    Raises:
        OutputError: There is no such store, label image or level.
    """
    array = open_labels(store, name, level=level)
    pixels: da.Array = da.from_zarr(array)
    return pixels


def count_levels(store: Folder, name: str) -> int:
    """How many levels a label image states.

    Raises:
        OutputError: There is no such store or label image.
    """
    said = ome_metadata(_open_image(store, name))
    return len(said["multiscales"][0]["datasets"])


def _open_image(store: Folder, name: str) -> zarr.Group:
    try:
        return zarr.open_group(zarr_place(store / _GROUP / name), mode="r+")
    except (GroupNotFoundError, FileNotFoundError) as error:
        msg = f"there is no label image {name!r} in '{store.name}': check the folder and the name"
        raise OutputError(msg) from error


def stored_labels(store: Folder) -> tuple[StoredLabels, ...]:
    """All label images of a store with their levels, in the order that the store states.

    Raises:
        OutputError: The store is not there.
    """
    return tuple(_stored(store, name) for name in label_names(store))


def copy_labels(
    source: Folder, store: Folder, *, version: OmeVersion, threads: int | None = None
) -> None:
    """Write all label images of a store anew, in a version of OME-NGFF.

    Pixels, levels, chunks and what the values mean stay the same. Memory holds a chunk per thread.

    Args:
        source: A finished store.
        store: Folder of the new one.
        version: Of the new one.
        threads: Chunks that are worked on at once; None takes one per core.

    Raises:
        OutputError: `source` is not there, or `store` is there already.
    """
    stored = stored_labels(source)
    finest = [item.levels[0] for item in stored]
    copies = create_labels(
        store,
        [item.image for item in stored],
        size=Size(width=finest[0].shape[1], height=finest[0].shape[0]),
        mpp=stored[0].mpp,
        chunk_px=finest[0].chunks[0],
        version=version,
    )
    with ThreadPoolExecutor(max_workers=request_threads(store, threads)) as pool:
        for original, copy in zip(finest, copies, strict=True):
            list(pool.map(partial(_copy_chunk, original=original, copy=copy), _chunk_boxes(copy)))
    finish_labels(store, threads=threads)


def finish_labels(store: Folder, *, threads: int | None = None) -> None:
    """Build the coarser levels of all label images of `store`, and say so in the metadata.

    Each level keeps every second pixel of the one before (nearest neighbour: pixel `i` is pixel
    `2 * i`, so levels share their first pixel's centre), until both sides are 512 pixels
    or less. Work goes chunk by chunk: memory holds a few chunks per thread. Calling it again builds
    the levels anew.

    Args:
        store: What `create_labels` made.
        threads: Chunks that are worked on at once; None takes one per core.

    Raises:
        OutputError: The store is not there.
    """
    names = label_names(store)
    with ThreadPoolExecutor(max_workers=request_threads(store, threads)) as pool:
        for name in names:
            _build_levels(store, name, pool=pool)


def label_names(store: Folder) -> list[str]:
    """The names of all label images of a store, in the order that it states.

    Raises:
        OutputError: The store is not there.
    """
    try:
        labels = zarr.open_group(zarr_place(store / _GROUP), mode="r")
    except (GroupNotFoundError, FileNotFoundError) as error:
        msg = f"there are no labels in '{store}': create them first"
        raise OutputError(msg) from error
    return list(ome_metadata(labels)["labels"])


def _stored(store: Folder, name: str) -> StoredLabels:
    said = ome_metadata(zarr.open_group(zarr_place(store / _GROUP / name), mode="r"))
    datasets = said["multiscales"][0]["datasets"]
    levels = tuple(open_labels(store, name, level=level) for level in range(len(datasets)))
    label = said["image-label"]
    classes = tuple(
        LabelClass(value=meant["label-value"], name=meant["class"], color=tuple(shown["rgba"][:3]))
        for meant, shown in zip(label.get("properties", []), label.get("colors", []), strict=True)
    )
    dtype: Any = str(levels[0].dtype)
    return StoredLabels(
        image=LabelImage(name=name, dtype=dtype, classes=classes),
        mpp=_mpp(said),
        levels=levels,
    )


def _copy_chunk(box: Box, *, original: zarr.Array[Any], copy: zarr.Array[Any]) -> None:
    pixels: Any = original[box.y0 : box.y1, box.x0 : box.x1]
    write_chunks(copy, pixels, box=box)


def _build_levels(store: Folder, name: str, *, pool: ThreadPoolExecutor) -> None:
    group = zarr.open_group(zarr_place(store / _GROUP / name), mode="r+")
    fine = open_labels(store, name)
    dtype, chunk_px = str(fine.dtype), fine.chunks[0]
    sizes = pyramid_sizes(Size(width=fine.shape[1], height=fine.shape[0]))
    for level, size in enumerate(sizes[1:], start=1):
        coarse = _create_level(group, size, level=level, dtype=dtype, chunk_px=chunk_px)
        list(pool.map(_Halving(fine=fine, coarse=coarse), _chunk_boxes(coarse)))
        fine = coarse
    said = ome_metadata(group)
    said["multiscales"][0]["datasets"] = _datasets(_mpp(said), len(sizes))
    set_ome_metadata(group, said)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Halving:
    fine: zarr.Array[Any]
    coarse: zarr.Array[Any]

    def __call__(self, box: Box) -> None:
        window = (slice(2 * box.y0, 2 * box.y1), slice(2 * box.x0, 2 * box.x1))
        pixels: Any = self.fine[window]
        if pixels.any():
            self.coarse[box.y0 : box.y1, box.x0 : box.x1] = pixels[::2, ::2]


def _chunk_boxes(array: zarr.Array[Any]) -> Iterator[Box]:
    height, width = array.shape
    rows, cols = array.chunks
    for y0, x0 in product(range(0, height, rows), range(0, width, cols)):
        yield Box(x0=x0, y0=y0, x1=min(x0 + cols, width), y1=min(y0 + rows, height))


def _create_level(
    group: zarr.Group, size: Size, *, level: int, dtype: str, chunk_px: int
) -> zarr.Array[Any]:
    if not all(size.shape):
        msg = f"a label image needs at least one pixel, got {size}"
        raise RegionError(msg)
    return group.create_array(
        str(level),
        shape=size.shape,
        chunks=(chunk_px, chunk_px),
        overwrite=level > 0,
        config=UNSEARCHED,
        **array_keys(group, axes="yx", dtype=np.dtype(dtype), zstd_level=_ZSTD_LEVEL),
    )


def _metadata(image: LabelImage, *, mpp: float) -> dict[str, Any]:
    """Of a label image that has level 0 alone."""
    label: dict[str, Any] = {"source": {"image": "../../"}}
    if image.classes:
        # The schema wants at least one colour; numbers of objects have none, and viewers choose.
        label["colors"] = [
            {"label-value": item.value, "rgba": [*item.color, 255]} for item in image.classes
        ]
        label["properties"] = [
            {"label-value": item.value, "class": item.name} for item in image.classes
        ]
    multiscale = {
        "name": image.title,
        "axes": [{"name": axis, "type": "space", "unit": "micrometer"} for axis in ("y", "x")],
        "datasets": _datasets(mpp, 1),
        "type": "nearest",
        "metadata": {"description": "a level has every second pixel of the one before"},
    }
    return {"multiscales": [multiscale], "image-label": label}


def _mpp(said: dict[str, Any]) -> float:
    dataset = said["multiscales"][0]["datasets"][0]
    return float(dataset["coordinateTransformations"][0]["scale"][0])


def _datasets(mpp: float, levels: int) -> list[dict[str, Any]]:
    scales = [mpp * 2**level for level in range(levels)]
    return [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [scale, scale]}],
        }
        for level, scale in enumerate(scales)
    ]
