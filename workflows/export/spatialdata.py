"""A result as a SpatialData store, which napari-spatialdata, scanpy and squidpy read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

import geopandas as gpd
import numpy as np
import orjson
import pandas as pd
import shapely
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from slideloom.errors import SettingsError, SlideloomError
from slideloom.workflows.export.atomic import atomic_folder
from slideloom.workflows.result import LABELS_FOLDER, SlideRecord, SlideResult
from slideloom.wsi import Box, Slide
from slideloom.wsi.source import parse_source
from slideloom.wsi.writing.labels import read_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData
    from spatialdata.transformations import Scale
    from xarray import DataTree

__all__ = ["write_spatialdata"]

SHAPES, TABLE, IMAGE = "objects", "table", "overview"
PIXELS, MICROMETRES = "global", "um"
_OVERVIEW_PX = 4000
_CHUNK_PX = 1024
# Points of a detector have no size; this is that of a small nucleus.
_POINT_RADIUS_UM = 4.0
_PLACES = ["centroid_x_px", "centroid_y_px"]


def write_spatialdata(result: SlideResult, path: Path) -> None:
    """Write a SpatialData store, a zarr folder, atomically.

    It holds, all of them in the coordinate systems `global` (level-0 pixels) and `um`
    (micrometres):

    - shapes `objects`: the polygons, boxes or tiles; points are circles of 4 um radius, as a table
      can annotate circles but not points. The index is the row of `objects.parquet` plus 1.
    - labels, `NAME_labels` for each label image `NAME`, with all its levels: `objects_labels` has
      the index of the shapes as its values, `classes_labels` the number of the class, from 1, and
      `class-N_labels`, where classes overlap, 1 where class `N` is.
    - image `overview`: the slide at 4000 pixels or less on its longer side, where the slide that
      the result is of can still be read.
    - table `table`, which annotates the shapes: `X` holds the measurements, `obs` the class and
      flags, `obsm["spatial"]` the centroids in level-0 pixels, and `uns["class_colors"]` the
      colours. Its rows are named by the objects' ids.

    `attrs["slideloom"]` is `result.json`. A result without objects has a table without rows and no
    shapes. Masks pass through chunk by chunk; the library wants shapes and table in memory.

    Args:
        result: A finished slide.
        path: Of the folder.

    Raises:
        SettingsError: The library is not installed.
        OutputError: The folder cannot be written, or a file of the result is missing.
    """
    _require_library()
    with atomic_folder(path) as folder, catch_warnings():
        # anndata announces, for each array, a default that it will have one day.
        filterwarnings("ignore", message="zarr v3 autosharding")
        # The library writes to a folder of its own making only.
        folder.rmdir()
        _assemble(result).write(folder)


def _require_library() -> None:
    try:
        import spatialdata  # noqa: F401
    except ImportError as error:
        msg = (
            f"SpatialData needs the library spatialdata, which cannot be used here ({error}): "
            "pip install 'slideloom[spatialdata]'"
        )
        raise SettingsError(msg) from error


def _assemble(result: SlideResult) -> SpatialData:
    from spatialdata import SpatialData

    objects = result.objects.set_axis(pd.RangeIndex(1, len(result.objects) + 1))
    record = result.record
    overview = _overview(record.slide)
    return SpatialData(
        shapes={} if objects.empty else {SHAPES: _shapes(objects, mpp=record.slide.mpp)},
        labels={f"{name}_labels": _labels(result, name) for name in _label_names(result)},
        images={} if overview is None else {IMAGE: overview},
        tables={TABLE: _table(objects, result)},
        attrs={"slideloom": orjson.loads(record.model_dump_json())},
    )


def _scales(mpp: float, *, slide_mpp: float) -> dict[str, Scale]:
    """From pixels of `mpp` to both coordinate systems."""
    from spatialdata.transformations import Scale

    factors = {PIXELS: mpp / slide_mpp, MICROMETRES: mpp}
    return {name: Scale([factor, factor], axes=("x", "y")) for name, factor in factors.items()}


def _shapes(objects: gpd.GeoDataFrame, *, mpp: float) -> gpd.GeoDataFrame:
    from spatialdata.models import ShapesModel

    shapes = gpd.GeoDataFrame(geometry=objects.geometry.to_numpy(), index=objects.index)
    if (shapely.get_type_id(shapes.geometry) == shapely.GeometryType.POINT).all():
        shapes["radius"] = _POINT_RADIUS_UM / mpp
    return ShapesModel.parse(shapes, transformations=_scales(mpp, slide_mpp=mpp))


def _label_names(result: SlideResult) -> list[str]:
    """Label images; a task without masks has none."""
    return list(result.masks) if (result.folder / LABELS_FOLDER).is_dir() else []


def _labels(result: SlideResult, name: str) -> DataTree:
    """A label image with the levels that the result has."""
    from spatialdata.models import Labels2DModel
    from spatialdata.transformations import set_transformation
    from xarray import Dataset, DataTree

    store = result.folder / LABELS_FOLDER
    levels = sum(item.name.isdigit() for item in (store / "labels" / name).iterdir())
    arrays = [Labels2DModel.parse(read_labels(store, name, level=k)) for k in range(levels)]
    tree = DataTree.from_dict(
        {f"scale{level}": Dataset({"image": array}) for level, array in enumerate(arrays)}
    )
    scales = _scales(result.record.qa.read_mpp, slide_mpp=result.record.slide.mpp)
    set_transformation(tree, scales, set_all=True)
    return tree


def _overview(record: SlideRecord) -> DataTree | None:
    """The slide and a coarser level of it; None where it cannot be read or is another by now."""
    from spatialdata.models import Image2DModel

    mpp = record.mpp * max(1.0, max(record.width, record.height) / _OVERVIEW_PX)
    try:
        with Slide(parse_source(record.path), record.options) as slide:
            if slide.fingerprint() != record.fingerprint:
                return None
            picture = slide.read_at_mpp(Box.of_size(slide.size_at_mpp(mpp)), mpp=mpp)
    except SlideloomError:
        return None
    return Image2DModel.parse(
        np.moveaxis(picture, -1, 0),
        c_coords=["r", "g", "b"],
        transformations=_scales(mpp, slide_mpp=record.mpp),
        scale_factors=[2, 2],
        chunks=_CHUNK_PX,
    )


def _table(objects: gpd.GeoDataFrame, result: SlideResult) -> AnnData:
    """Measurements and annotations of the shapes."""
    from anndata import AnnData
    from spatialdata.models import TableModel

    columns = pd.DataFrame(objects.drop(columns=[objects.geometry.name, "id", *_PLACES]))
    measured = [name for name, column in columns.items() if _is_measured(column)]
    classes = result.record.model.classes
    notes = columns.drop(columns=[name for name, column in columns.items() if _is_number(column)])
    notes = notes.astype(dict.fromkeys(notes.select_dtypes(["object", "string"]), "category"))
    notes["class"] = pd.Categorical(columns["class"], [item.name for item in classes])
    notes["region"] = pd.Categorical([SHAPES] * len(objects))
    notes["instance_id"] = objects.index
    table = AnnData(
        X=columns[measured].to_numpy(np.float64, na_value=np.nan),
        obs=notes.set_axis(objects["id"].astype(str)),
        var=pd.DataFrame(index=measured),
        obsm={"spatial": objects[_PLACES].to_numpy(np.float64)},
        uns={"class_colors": [f"#{bytes(item.color).hex()}" for item in classes]},
    )
    if objects.empty:
        return TableModel.parse(table)
    return TableModel.parse(table, region=SHAPES, region_key="region", instance_key="instance_id")


def _is_number(column: pd.Series[Any]) -> bool:
    return is_numeric_dtype(column.dtype) and not is_bool_dtype(column.dtype)


def _is_measured(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers at all: the areas of a mask have no score."""
    return _is_number(column) and bool(column.notna().any() or column.empty)
