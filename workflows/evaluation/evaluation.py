"""What an evaluation tells, in memory and as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from slideloom.models.spec import Task
from slideloom.postprocess.metrics.bootstrap import Resampling
from slideloom.workflows.evaluation.figures import ALL, Curves
from slideloom.workflows.export.atomic import atomic_file, make_folder

__all__ = ["Evaluation", "Measured"]

FIGURES_FILE = "figures.json"
TABLE_FILE = "figures.md"
IMAGES_FILE = "per_image.csv"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Figures of one method.

    Attributes:
        name: Of the model, or of the baseline.
        figures: Columns `figure`, `class`, `value`, `low` and `high`; see `pooled_figures`.
        per_image: One row for each image and class; see `figures_by_image`. For classification
            one row for each image: its classes, those found, and the probabilities.
        confusion: `(m, m)`, truth by rows; `m` is 0 where there is none.
        curves: What may be drawn of it; None where nothing.
    """

    name: str
    figures: pd.DataFrame
    per_image: pd.DataFrame
    confusion: NDArray[np.float64]
    curves: Curves | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Figures of a model, or of one table against another, with baselines beside them.

    Attributes:
        task: What was measured.
        classes: Names in the model's order.
        images: Names.
        resampling: How the intervals were made.
        measured: What was asked for.
        baselines: Methods that know nothing, on the same images.
    """

    task: Task
    classes: tuple[str, ...]
    images: tuple[str, ...]
    resampling: Resampling
    measured: Measured
    baselines: tuple[Measured, ...] = ()

    @property
    def figures(self) -> pd.DataFrame:
        """The figures of what was asked for; see `Measured`."""
        return self.measured.figures

    @property
    def per_image(self) -> pd.DataFrame:
        """The same for each image; see `Measured`."""
        return self.measured.per_image

    def value(self, figure: str, *, of: str = ALL, method: str | None = None) -> float:
        """One pooled figure.

        Args:
            figure: Its name.
            of: A class, or all of them.
            method: The name of a baseline; None takes what was asked for.

        Raises:
            KeyError: There is no such figure, class or method.
        """
        methods = {item.name: item for item in self.baselines}
        chosen = self.measured if method is None else methods[method]
        table = chosen.figures.set_index(["figure", "class"])
        return float(table["value"].loc[(figure, of)])

    def markdown(self) -> str:
        """A table for people: figures of all classes and of each, with intervals."""
        methods = (self.measured, *self.baselines)
        percent = f"{100 * self.resampling.confidence:g} %"
        head = ["figure", "class", f"{self.measured.name} ({percent} interval)"]
        head += [item.name for item in self.baselines]
        lines = [_row(head), _row(["---"] * len(head))]
        tables = [item.figures.set_index(["figure", "class"]) for item in methods]
        others = [table["value"].to_dict() for table in tables[1:]]
        for key, row in zip(tables[0].index.tolist(), tables[0].to_dict("records"), strict=True):
            cells = [*key, _with_interval(row)]
            cells += [_number(values.get(key, np.nan)) for values in others]
            lines.append(_row(cells))
        count = len(self.images)
        note = (
            f"{count} image{'s' if count != 1 else ''}; intervals by "
            f"{self.resampling.resamples} draws of images (seed {self.resampling.seed})."
        )
        return "\n".join([*lines, "", note, ""])

    def write(self, folder: Path) -> None:
        """Leave `figures.json`, `figures.md`, `per_image.csv` and plots in a folder.

        Plots are `confusion.png`, `curve.png` and `per_image.png`, those that the task has.

        Args:
            folder: Made where missing; files of an earlier evaluation in it are replaced.

        Raises:
            OutputError: The folder or a file cannot be written.
        """
        # matplotlib is of an extra, and only plots need it.
        from slideloom.workflows.evaluation.plots import write_plots

        make_folder(folder)
        with atomic_file(folder / FIGURES_FILE) as file:
            options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
            file.write(orjson.dumps(self._record(), option=options))
        with atomic_file(folder / TABLE_FILE) as file:
            file.write(self.markdown().encode())
        with atomic_file(folder / IMAGES_FILE) as file:
            file.write(self.per_image.to_csv(index=False).encode())
        write_plots(self, folder)

    def _record(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "classes": self.classes,
            "images": self.images,
            "resamples": self.resampling.resamples,
            "confidence": self.resampling.confidence,
            "seed": self.resampling.seed,
            "method": self.measured.name,
            "figures": self.figures.to_dict("records"),
            "confusion": self.measured.confusion.tolist(),
            "baselines": {item.name: item.figures.to_dict("records") for item in self.baselines},
        }


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _with_interval(row: dict[Any, Any]) -> str:
    text = _number(row["value"])
    if np.isnan(row["low"]):
        return text
    return f"{text} ({_number(row['low'])} to {_number(row['high'])})"


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
