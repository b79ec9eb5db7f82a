"""Draw how a training went: its losses and its learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slideloom.models.training.history import EpochRecord

__all__ = ["draw_curves"]

_INCHES = (5.0, 3.4)
_DPI = 120


def draw_curves(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write a PNG with a panel for the loss, one for each part of it, and the learning rate.

    The best epoch is marked. Records of no epoch draw nothing.
    """
    if not records:
        return
    parts = list(records[-1].train)
    if len(parts) == 2:
        # One part is the loss itself.
        parts = parts[:1]
    columns = min(3, len(parts) + 1)
    rows = -(-(len(parts) + 1) // columns)
    figure = Figure(figsize=(columns * _INCHES[0], rows * _INCHES[1]), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, part in zip(panels, parts, strict=False):
        _draw_part(panel, records, part=part)
    rate = panels[len(parts)]
    epochs = [record.epoch for record in records]
    rate.plot(epochs, [record.learning_rate for record in records], color="tab:green")
    _label(rate, "learning rate")
    for panel in panels[len(parts) + 1 :]:
        panel.remove()
    figure.savefig(path, format="png", dpi=_DPI)


def _draw_part(panel: Axes, records: Sequence[EpochRecord], *, part: str) -> None:
    epochs = [record.epoch for record in records]
    for name, losses in (
        ("train", [record.train[part] for record in records]),
        ("validation", [record.validation[part] for record in records]),
    ):
        panel.plot(epochs, losses, label=name, marker="." if len(epochs) == 1 else None)
    best = max(record.epoch for record in records if record.best)
    panel.axvline(best, color="grey", linestyle=":", label=f"best, epoch {best}")
    panel.legend(frameon=False)
    _label(panel, part)


def _label(panel: Axes, title: str) -> None:
    panel.set_title(title)
    panel.set_xlabel("epoch")
    panel.spines[["top", "right"]].set_visible(False)
