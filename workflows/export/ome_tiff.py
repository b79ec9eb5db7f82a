"""The label images of a result as one pyramidal OME-TIFF."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid5

from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.masks import label_store
from slideloom.workflows.result import OBJECTS_FILE, SlideResult
from slideloom.wsi.writing.label_tiff import write_label_tiff
from slideloom.wsi.writing.labels import stored_labels

__all__ = ["write_ome_tiff"]

_NAMESPACE = UUID("5e6c0a5f-6a5d-4d0e-9d0b-3f2f0c1f7a21")


def write_ome_tiff(result: SlideResult, path: Path) -> None:
    """Write the label images of a finished result, with all their levels.

    All of them are channels of one OME image, so overlapping classes are shown together, each by
    its name and colour. uint8 for classes and uint32 for objects, at the model's mpp, in
    deflate. See `slideloom.wsi.writing.label_tiff` for the layout and its reasons.

    The same result gives the same bytes. Memory holds a few tiles.

    Args:
        result: A finished slide of a model that gives masks.
        path: The file; one that stands there is replaced when the new one is whole.

    Raises:
        SettingsError: The result has no masks.
        OutputError: The masks are missing, or the file cannot be written.
    """
    images = stored_labels(label_store(result, "an OME-TIFF"))
    record = result.record
    with atomic_file(path) as file:
        write_label_tiff(
            images,
            file,
            name=record.slide.name,
            description=_description(result),
            uuid=uuid5(_NAMESPACE, record.key),
        )


def _description(result: SlideResult) -> str:
    """What the values are, for a reader that has nothing but the file."""
    model, slide = result.record.model, result.record.slide
    if model.task == "instance":
        values = f"a value is the row of {OBJECTS_FILE} + 1, and 0 is no object"
    elif model.overlapping:
        values = "a channel is a class, 1 where it is and 0 elsewhere; classes may overlap"
    else:
        named = ", ".join(f"{value} {item.name}" for value, item in enumerate(model.classes, 1))
        values = f"a value is a class ({named}), and 0 is background"
    return f"Labels of slide '{slide.name}' by model '{model.name}': {values}."
