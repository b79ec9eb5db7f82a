"""What can be wrong with a whole batch, found before its first slide is opened."""

from __future__ import annotations

from slideloom.errors import RoiError
from slideloom.models.spec import ModelSpec
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import check_formats
from slideloom.workflows.stains import check_stains

__all__ = ["check_batch"]


def check_batch(spec: ModelSpec, config: RunConfig) -> None:
    """Refuse settings that no slide could be run with.

    Raises:
        RoiError: There is no such ROI file.
        SettingsError: A format that no exporter writes, or settings of stains that cannot be.
    """
    check_formats(config.formats, task=spec.task, split_mb=config.split_mb)
    check_stains(config.measure)
    if config.roi is not None and not config.roi.is_file():
        msg = f"there is no ROI file '{config.roi}': check --roi"
        raise RoiError(msg)
