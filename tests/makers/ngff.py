"""Small OME-Zarr stores, written with zarr itself: any axes, codecs and metadata."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from slideloom.wsi.geometry import Box
from slideloom.wsi.readers.ome_zarr.reader import ZarrReader

FORMATS = {"0.4": 2, "0.5": 3}
"""The zarr format of each version of OME-NGFF."""
_V2 = {
    "blosc": numcodecs.Blosc(),
    "zstd": numcodecs.Zstd(),
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
    "none": None,
}
_V3 = {
    "blosc": BloscCodec(),
    "zstd": ZstdCodec(),
    "gzip": GzipCodec(),
    "crc32c": Crc32cCodec(),
    "none": None,
}
CODECS = [("0.4", codec) for codec in _V2.values()] + [("0.5", codec) for codec in _V3.values()]
CODEC_NAMES = [f"0.4-{name}" for name in _V2] + [f"0.5-{name}" for name in _V3]


@dataclass(frozen=True, kw_only=True)
class Ngff:
    """What a store states beside its pixels.

    `scale` is that of level 0, one figure per axis; `more` is added to the image's metadata.
    """

    version: str = "0.5"
    axes: str = "cyx"
    unit: str | None = "micrometer"
    scale: Sequence[float] | None = None
    more: Mapping[str, Any] | None = None

    def metadata(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        base = self.scale or (1.0,) * len(self.axes)
        datasets = []
        for level, shape in enumerate(shapes):
            ratios = zip(base, shapes[0], shape, strict=True)
            scale = [step * full / part for step, full, part in ratios]
            transforms = [{"type": "scale", "scale": scale}]
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
        multiscale: dict[str, Any] = {
            "name": "slide",
            "axes": [self._axis(name) for name in self.axes],
            "datasets": datasets,
        }
        if self.version == "0.4":
            multiscale["version"] = "0.4"
        return {"multiscales": [multiscale], **(self.more or {})}

    def _axis(self, name: str) -> dict[str, str]:
        kind = {"t": "time", "c": "channel"}.get(name, "space")
        unit = {"unit": self.unit} if kind == "space" and self.unit is not None else {}
        return {"name": name, "type": kind, **unit}


def write_ngff(
    path: Path, levels: Sequence[NDArray[Any]], ngff: Ngff | None = None, **options: Any
) -> Path:
    """Write `levels`, whose axes are those of `ngff`; `options` go to zarr's `create_array`."""
    ngff = ngff or Ngff()
    group = zarr.open_group(path, mode="w", zarr_format=FORMATS[ngff.version])  # type: ignore[arg-type]
    for index, pixels in enumerate(levels):
        chunks = tuple(min(32, side) for side in pixels.shape)
        settings: dict[str, Any] = {"chunks": chunks} | options
        array = group.create_array(str(index), shape=pixels.shape, dtype=pixels.dtype, **settings)
        array[...] = pixels
    set_ome(group, ngff.metadata([level.shape for level in levels]), version=ngff.version)
    return path


def write_with_ome_zarr(path: Path, pixels: NDArray[Any], *, version: str) -> Path:
    """What ome-zarr-py writes of `(c, y, x)`: three levels, 0.5 um high and 0.25 um wide pixels."""
    with warnings.catch_warnings():
        # The package warns of a class of its own when it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from ome_zarr.format import format_from_version
        from ome_zarr.writer import write_image
    group = zarr.open_group(path, mode="w", zarr_format=FORMATS[version])  # type: ignore[arg-type]
    write_image(
        pixels,
        group,
        axes="cyx",
        fmt=format_from_version(version),
        scale_factors=(2, 4),
        scale={"c": 1.0, "y": 0.5, "x": 0.25},
        axes_units={"y": "micrometer", "x": "micrometer"},
    )
    return path


def set_ome(group: zarr.Group, metadata: Mapping[str, Any], *, version: str) -> None:
    """Put the metadata of OME where the version keeps it."""
    if version == "0.4":
        group.attrs.update(dict(metadata))
    else:
        group.attrs["ome"] = {"version": version, **metadata}


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a metadata document."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def chunk_files(level: Path) -> list[Path]:
    """The stored chunks or shards of an array, sorted."""
    documents = {"zarr.json", ".zarray", ".zattrs"}
    return sorted(
        file for file in level.rglob("*") if file.is_file() and file.name not in documents
    )


def zip_store(store: Path, path: Path, *, inside: str = "") -> Path:
    """The store in one file; below the folder `inside`, where one is named."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(store.rglob("*")):
            if file.is_file():
                archive.write(file, Path(inside, file.relative_to(store)))
    return path


def pyramid(*, shape: tuple[int, int, int] = (3, 100, 130), levels: int = 3) -> list[NDArray[Any]]:
    """Levels `(c, y, x)` of uint8 noise, each half of the one before."""
    finest = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)
    return [finest[:, :: 2**level, :: 2**level].copy() for level in range(levels)]


def read_corner(source: str | Path) -> NDArray[Any]:
    """The first pixels of level 0, as a worker of another process reads them."""
    return ZarrReader(source).read(Box(x0=0, y0=0, x1=40, y1=40), 0)
