"""Label images on disk: OME-NGFF 0.5 (zarr 3), written region by region, read lazily.

The store holds one label image per name:

    labels.ome.zarr/labels/NAME/{0,1,2,...}     level 0 is the finest; axes (y, x)

The slide itself is not in it, so viewers open `labels.ome.zarr/labels` or one of its images.

Specification: https://ngff.openmicroscopy.org/0.5/ (sections 2.4 multiscales and 2.5 labels).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.errors import ContainsGroupError, GroupNotFoundError

from slideloom.errors import OutputError, RegionError, SettingsError
from slideloom.wsi.geometry import Box, Size
from slideloom.wsi.writing.pyramid import pyramid_sizes

_VERSION = "0.5"
_GROUP = "labels"
UNSEARCHED: Any = {"write_empty_chunks": True}
"""zarr does not look for chunks that hold nothing, which takes it four times as long as writing
them; `write_chunks` leaves them out."""
_CODEC = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")


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


def create_labels(
    store: Path,
    images: Sequence[LabelImage],
    *,
    size: Size,
    mpp: float,
    chunk_px: int = 1024,
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
        root = zarr.create_group(store, zarr_format=3, attributes={"ome": {"version": _VERSION}})
    except ContainsGroupError as error:
        msg = f"'{store.name}' exists already: remove it, or choose another output folder"
        raise OutputError(msg) from error
    labels = root.create_group(_GROUP)
    arrays = []
    for image in images:
        group = labels.create_group(image.name)
        group.attrs["ome"] = _metadata(image, mpp=mpp, levels=1)
        arrays.append(_create_level(group, size, level=0, dtype=image.dtype, chunk_px=chunk_px))
    labels.attrs["ome"] = {"version": _VERSION, "labels": names}
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
    for y in range(0, box.height, side):
        for x in range(0, box.width, side):
            part = pixels[..., y : y + side, x : x + side]
            if part.any():
                height, width = part.shape[-2:]
                rows = slice(box.y0 + y, box.y0 + y + height)
                array[..., rows, box.x0 + x : box.x0 + x + width] = part


def open_labels(store: Path, name: str, *, level: int = 0) -> zarr.Array[Any]:
    """The array `(y, x)` of one level, to read or to write on where a run stopped.

    Raises:
        OutputError: There is no such store, label image or level.
    """
    try:
        group = zarr.open_group(store / _GROUP / name, mode="r+")
    except (GroupNotFoundError, FileNotFoundError) as error:
        msg = f"there is no label image {name!r} in '{store.name}': check the folder and the name"
        raise OutputError(msg) from error
    array = group.get(str(level))
    if not isinstance(array, zarr.Array):
        msg = f"label image {name!r} in '{store.name}' has no level {level}"
        raise OutputError(msg)
    return array


def read_labels(store: Path, name: str, *, level: int = 0) -> da.Array:
    """One level of a label image as a lazy `(y, x)` dask array.

    Raises:
        OutputError: There is no such store, label image or level.
    """
    array = open_labels(store, name, level=level)
    pixels: da.Array = da.from_zarr(array)
    return pixels


def finish_labels(store: Path, *, threads: int | None = None) -> None:
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
    names = _names(store)
    with ThreadPoolExecutor(max_workers=threads or os.cpu_count()) as pool:
        for name in names:
            _build_levels(store, name, pool=pool)


def _names(store: Path) -> list[str]:
    try:
        labels = zarr.open_group(store / _GROUP, mode="r")
    except (GroupNotFoundError, FileNotFoundError) as error:
        msg = f"there are no labels in '{store}': create them first"
        raise OutputError(msg) from error
    ome: Any = labels.attrs["ome"]
    return list(ome["labels"])


def _build_levels(store: Path, name: str, *, pool: ThreadPoolExecutor) -> None:
    group = zarr.open_group(store / _GROUP / name, mode="r+")
    fine = open_labels(store, name)
    dtype, chunk_px = str(fine.dtype), fine.chunks[0]
    sizes = pyramid_sizes(Size(width=fine.shape[1], height=fine.shape[0]))
    for level, size in enumerate(sizes[1:], start=1):
        coarse = _create_level(group, size, level=level, dtype=dtype, chunk_px=chunk_px)
        list(pool.map(_Halving(fine=fine, coarse=coarse), _chunk_boxes(coarse)))
        fine = coarse
    ome: Any = group.attrs["ome"]
    datasets = ome["multiscales"][0]["datasets"]
    mpp = datasets[0]["coordinateTransformations"][0]["scale"][0]
    ome["multiscales"][0]["datasets"] = _datasets(mpp, len(sizes))
    group.attrs["ome"] = ome


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
        dtype=dtype,
        chunks=(chunk_px, chunk_px),
        compressors=_CODEC,
        fill_value=0,
        dimension_names=["y", "x"],
        overwrite=level > 0,
        config=UNSEARCHED,
    )


def _metadata(image: LabelImage, *, mpp: float, levels: int) -> dict[str, Any]:
    colors = [{"label-value": item.value, "rgba": [*item.color, 255]} for item in image.classes]
    label: dict[str, Any] = {"source": {"image": "../../"}, "colors": colors}
    if image.classes:
        label["properties"] = [
            {"label-value": item.value, "class": item.name} for item in image.classes
        ]
    multiscale = {
        "name": image.name,
        "axes": [{"name": axis, "type": "space", "unit": "micrometer"} for axis in ("y", "x")],
        "datasets": _datasets(mpp, levels),
        "type": "nearest",
    }
    return {"version": _VERSION, "multiscales": [multiscale], "image-label": label}


def _datasets(mpp: float, levels: int) -> list[dict[str, Any]]:
    scales = [mpp * 2**level for level in range(levels)]
    return [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [scale, scale]}],
        }
        for level, scale in enumerate(scales)
    ]
