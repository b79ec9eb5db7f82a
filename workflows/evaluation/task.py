"""What a task has to supply to be measured on slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from slideloom.workflows.evaluation.figures import Curves, Figures
from slideloom.workflows.evaluation.images import Frame, Within
from slideloom.workflows.result import SlideResult

EVERYWHERE = "everywhere"
"""The baseline that says yes to every pixel."""
OTSU = "Otsu"
"""The baseline that takes what is dark for what is looked for."""

F = TypeVar("F")
"""What is known of one image: as annotated, or as found."""
T = TypeVar("T")
"""What counting one image leaves."""


class TaskScore(Protocol[F, T]):
    """Compares what was found with the truth, image by image, and sums it up."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the model's order."""
        ...

    def truth(self, objects: gpd.GeoDataFrame, frame: Frame) -> F:
        """The annotations of an image.

        Raises:
            SettingsError: An object has a class that the model does not know, or a geometry that
                the task does not use.
        """
        ...

    def found(self, result: SlideResult, frame: Frame) -> F:
        """What a run left of the same image."""
        ...

    def baselines(self, dark: NDArray[np.bool_], frame: Frame, *, majority: int) -> Mapping[str, F]:
        """What methods find that know nothing, by their names.

        Args:
            dark: `(y, x)`, the pixels of the frame below Otsu's threshold.
            frame: Of the image.
            majority: The class of greatest `weight` over all images, which they take all for.
        """
        ...

    def weight(self, truth: F) -> NDArray[np.float64]:
        """`(k,)`, how much there is of each class."""
        ...

    def compare(self, truth: F, found: F, *, frame: Frame) -> T:
        """Count one image, inside the known area only."""
        ...

    def join(self, tallies: Sequence[T]) -> T:
        """The parts of one image as one image."""
        ...

    def compare_tables(
        self, truth: gpd.GeoDataFrame, found: gpd.GeoDataFrame, *, within: Within
    ) -> T:
        """Count one image from two tables of objects.

        Raises:
            MissingMppError: The task measures distances, and `within` has no mpp.
            SettingsError: See `truth`.
        """
        ...

    def figures(self, tallies: Sequence[T]) -> Figures:
        """The figures of the task, of images that are counted by `tallies`."""
        ...

    def confusion(self, tallies: Sequence[T]) -> NDArray[np.float64]:
        """`(m, m)`, truth by rows; `m` is 0 where there is no such matrix."""
        ...

    def curves(self, tallies: Sequence[T]) -> Curves | None:
        """Lines that show more than a figure does; None where there are none."""
        ...
