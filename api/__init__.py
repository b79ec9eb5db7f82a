"""slideloom: whole-slide image analysis.

Opens a slide, runs a network over its tiles, and weaves the tiles into one slide-level result.
The names below load on first use, so that `import slideloom` stays quick.

    import slideloom as sl

    with sl.open_slide("a.svs") as slide:
        result = sl.run_slide(slide, model="nuclei", out="out/a")
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from slideloom.errors import (
    AnnotationError,
    ClusterError,
    MissingMppError,
    ModelFolderError,
    ModelNotFoundError,
    OutputError,
    RegionError,
    RoiError,
    RunLockedError,
    RunStoppedError,
    SettingsError,
    SlideAccessError,
    SlideFormatError,
    SlideloomError,
    SlideNotFoundError,
)

if TYPE_CHECKING:
    from slideloom.models.catalog import list_models
    from slideloom.models.folder import load_model
    from slideloom.workflows.config import RunConfig
    from slideloom.workflows.convert import ConvertOptions, convert_slide
    from slideloom.workflows.export.finished import export_result
    from slideloom.workflows.result import SlideResult, load_result
    from slideloom.workflows.run import run_slide
    from slideloom.workflows.training.config import TrainConfig
    from slideloom.workflows.training.train import train_model
    from slideloom.wsi import Display, Slide, ValueRange, open_slide

__version__ = version("slideloom")

__all__ = [
    "AnnotationError",
    "ClusterError",
    "ConvertOptions",
    "Display",
    "MissingMppError",
    "ModelFolderError",
    "ModelNotFoundError",
    "OutputError",
    "RegionError",
    "RoiError",
    "RunConfig",
    "RunLockedError",
    "RunStoppedError",
    "SettingsError",
    "Slide",
    "SlideAccessError",
    "SlideFormatError",
    "SlideNotFoundError",
    "SlideResult",
    "SlideloomError",
    "TrainConfig",
    "ValueRange",
    "__version__",
    "convert_slide",
    "export_result",
    "list_models",
    "load_model",
    "load_result",
    "open_slide",
    "run_slide",
    "train_model",
]

_HOMES = {
    "ConvertOptions": "slideloom.workflows.convert",
    "Display": "slideloom.wsi",
    "RunConfig": "slideloom.workflows.config",
    "Slide": "slideloom.wsi",
    "SlideResult": "slideloom.workflows.result",
    "TrainConfig": "slideloom.workflows.training.config",
    "ValueRange": "slideloom.wsi",
    "convert_slide": "slideloom.workflows.convert",
    "export_result": "slideloom.workflows.export.finished",
    "list_models": "slideloom.models.catalog",
    "load_model": "slideloom.models.folder",
    "load_result": "slideloom.workflows.result",
    "open_slide": "slideloom.wsi",
    "run_slide": "slideloom.workflows.run",
    "train_model": "slideloom.workflows.training.train",
}


def __getattr__(name: str) -> object:
    """Load a public name from where it lives."""
    if name not in _HOMES:
        msg = f"module 'slideloom' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
