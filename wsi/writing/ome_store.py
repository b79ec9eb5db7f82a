"""How the versions of OME-NGFF keep arrays and metadata: 0.5 in zarr 3, 0.4 in zarr 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec

OmeVersion = Literal["0.5", "0.4"]


def zarr_format(version: OmeVersion) -> Literal[2, 3]:
    """The zarr format of a version of OME-NGFF."""
    return 3 if version == "0.5" else 2


def ome_version(group: zarr.Group) -> OmeVersion:
    """The version of OME-NGFF that a group is of."""
    return "0.5" if group.metadata.zarr_format == 3 else "0.4"


def array_keys(
    group: zarr.Group, *, axes: str, dtype: np.dtype[Any], zstd_level: int
) -> dict[str, Any]:
    """What `create_array` is told of an array in `group`, beside its shape.

    That is how its chunks are compressed (zstd in Blosc), in which folders they lie, and the names
    of its axes, which zarr 2 has no place for.
    """
    shuffle: Literal["shuffle", "noshuffle"] = "noshuffle"
    if dtype.itemsize > 1:
        shuffle = "shuffle"
    keys: dict[str, Any] = {"dtype": dtype, "fill_value": 0}
    if ome_version(group) == "0.5":
        codec = BloscCodec(cname="zstd", clevel=zstd_level, shuffle=shuffle)
        return keys | {"dimension_names": list(axes), "compressors": codec}
    old = {
        "id": "blosc",
        "cname": "zstd",
        "clevel": zstd_level,
        "shuffle": int(shuffle == "shuffle"),
    }
    return keys | {
        "compressors": old,
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
    }


def ome_metadata(group: zarr.Group) -> dict[str, Any]:
    """What a group says, from where its version keeps it."""
    if ome_version(group) == "0.4":
        return dict(group.attrs)
    ome: Any = group.attrs["ome"]
    return dict(ome)


def set_ome_metadata(group: zarr.Group, metadata: Mapping[str, Any]) -> None:
    """Replace what a group says.

    0.5 states its version once for the group; in 0.4 `multiscales`, `omero` and `image-label` have
    one each.
    """
    version = ome_version(group)
    if version == "0.5":
        group.attrs["ome"] = {"version": version, **metadata}
        return
    for key, value in metadata.items():
        stated: Any = value
        if key == "multiscales":
            stated = [{"version": version, **item} for item in value]
        elif key in ("omero", "image-label"):
            stated = {"version": version, **value}
        group.attrs[key] = stated
