"""Plots of an evaluation, as PNG: confusion matrix, curves, and how images differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from slideloom.workflows.evaluation.figures import ALL, Curves
from slideloom.workflows.export.atomic import atomic_file

if TYPE_CHECKING:
    from slideloom.workflows.evaluation.evaluation import Evaluation

__all__ = ["write_plots"]

_BACKGROUND = "background"
_DPI = 120
_MOST_FIGURES = 8


def write_plots(evaluation: Evaluation, folder: Path) -> None:
    """Write the plots that the evaluation has; see `Evaluation.write`.

    Raises:
        OutputError: A file cannot be written.
    """
    measured = evaluation.measured
    plots = {
        "confusion.png": _confusion(measured.confusion, classes=evaluation.classes)
        if len(measured.confusion)
        else None,
        "curve.png": _curves(measured.curves) if measured.curves else None,
        "per_image.png": _per_image(evaluation),
    }
    for name, canvas in plots.items():
        if canvas is None:
            (folder / name).unlink(missing_ok=True)
            continue
        with atomic_file(folder / name) as file:
            canvas.savefig(file, format="png", dpi=_DPI)


def _confusion(confusion: NDArray[np.float64], *, classes: Sequence[str]) -> Canvas:
    """Shares of each row, which is one true class; a row that is empty stays white."""
    names = [_BACKGROUND, *classes] if len(confusion) > len(classes) else list(classes)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.where(totals > 0, totals, 1)
    side = 2.5 + 0.7 * len(names)
    canvas = Canvas(figsize=(side + 0.8, side), layout="constrained")
    axes = canvas.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("found")
    axes.set_ylabel("truth")
    canvas.colorbar(image, label="share of the true class")
    return canvas


def _curves(curves: Curves) -> Canvas:
    canvas = Canvas(figsize=(5.5, 4.5), layout="constrained")
    axes = canvas.subplots()
    for name, points in curves.points.items():
        if len(points) and not np.isnan(points).all():
            axes.plot(points[:, 0], points[:, 1], label=name)
    axes.set_xlabel(curves.x)
    axes.set_ylabel(curves.y)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return canvas


def _per_image(evaluation: Evaluation) -> Canvas | None:
    """How each figure of all classes is spread over images; none where figures are not by image."""
    table = evaluation.per_image
    if "class" not in table or len(evaluation.images) < 2:
        return None
    rows = table[table["class"] == ALL].drop(columns=["image", "class"])
    names = [str(name) for name in rows if rows[name].notna().any()][:_MOST_FIGURES]
    if not names:
        return None
    values = [rows[name].dropna().to_numpy(np.float64) for name in names]
    canvas = Canvas(figsize=(1.5 + 0.9 * len(names), 4), layout="constrained")
    axes = canvas.subplots()
    axes.boxplot(values, tick_labels=names, showfliers=False)
    rng = np.random.default_rng(0)
    for place, column in enumerate(values, start=1):
        axes.plot(place + rng.uniform(-0.15, 0.15, len(column)), column, ".", alpha=0.5)
    axes.tick_params(axis="x", rotation=45)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y", alpha=0.3)
    axes.set_ylabel("each point is an image")
    return canvas
