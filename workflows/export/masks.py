"""Which results hold masks, for the formats that are made of them."""

from __future__ import annotations

from pathlib import Path

from slideloom.errors import SettingsError
from slideloom.workflows.result import LABELS_FOLDER, SlideResult

__all__ = ["label_store"]

_HELD = {
    "detection": "boxes or points",
    "classification": "classes of tiles",
}
"""What a task without masks leaves."""


def label_store(result: SlideResult, what: str) -> Path:
    """The store of a result's label images.

    Args:
        result: A finished slide.
        what: That is made of them, for the message.

    Raises:
        SettingsError: The task has no masks.
    """
    model = result.record.model
    if model.task in _HELD:
        msg = (
            f"{what} holds masks, and '{result.folder}' holds {_HELD[model.task]} of model "
            f"'{model.name}' ({model.task}): choose a format of objects, such as geojson"
        )
        raise SettingsError(msg)
    return result.folder / LABELS_FOLDER
