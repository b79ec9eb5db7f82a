"""The label images of a result in OME-NGFF 0.4 (zarr 2), for viewers that do not read 0.5."""

from __future__ import annotations

from pathlib import Path

from slideloom.workflows.export.atomic import atomic_folder
from slideloom.workflows.export.masks import label_store
from slideloom.workflows.result import SlideResult
from slideloom.wsi.writing.labels import copy_labels

__all__ = ["write_ngff_04"]


def write_ngff_04(result: SlideResult, path: Path) -> None:
    """Write the label images of a finished result anew, as an OME-Zarr of version 0.4.

    The layout is that of `labels.ome.zarr`, which is 0.5: `labels/NAME/{0,1,2,...}`, one image of
    objects or of classes, or one for each class where they may overlap. The slide itself is not
    in it, so viewers open the folder `labels` or one of its images.

    Memory holds a chunk for each core.

    Args:
        result: A finished slide of a model that gives masks.
        path: The folder; one that stands there is replaced when the new one is whole.

    Raises:
        SettingsError: The result has no masks.
        OutputError: The masks are missing, or the folder cannot be written.
    """
    store = label_store(result, "an OME-Zarr of labels")
    with atomic_folder(path) as folder:
        copy_labels(store, folder, version="0.4")
