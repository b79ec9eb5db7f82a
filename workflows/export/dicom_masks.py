"""The masks of a result as DICOM counts them: numbers of classes, or one flag for each class."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from slideloom.errors import OutputError
from slideloom.workflows.export.masks import label_store
from slideloom.workflows.result import OBJECTS_FILE, SlideResult
from slideloom.wsi.geometry import Size
from slideloom.wsi.writing.labels import open_labels
from slideloom.wsi.writing.pyramid import pyramid_sizes

__all__ = ["ClassMasks", "class_masks"]

_CLASS = "class"


class _Matrix(np.memmap[Any, np.dtype[np.unsignedinteger[Any]]]):
    """Pixels on disk that highdicom checks as a whole without a copy of them in memory."""

    def astype(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As of every array, but what has the type already is given back."""
        return super().astype(*args, **{"copy": False, **kwargs})

    def sum(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As of every array, but sums of flags over the classes have 8 bits: they are 255 at most.

        NumPy's 64 bits for each pixel would be the most that an export holds.
        """
        over_classes = kwargs.get("axis") == -1 and self.ndim == 4
        return super().sum(*args, **({"dtype": np.uint8, **kwargs} if over_classes else kwargs))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMasks:
    """Label images of one slide and their pyramids.

    Attributes:
        store: Of the label images.
        names: Of the images: one, or one for each class where classes overlap.
        overlapping: Whether classes overlap.
        class_of: `(n + 1,)`, class of each object number; None where pixels have classes.
    """

    store: Path
    names: tuple[str, ...]
    overlapping: bool
    class_of: NDArray[np.unsignedinteger[Any]] | None

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Of the levels, finest first."""
        height, width = open_labels(self.store, self.names[0]).shape
        return pyramid_sizes(Size(width=width, height=height))

    @contextmanager
    def on_disk(self, level: int, folder: Path) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
        """One level as an array behind which there is a file that goes when the block ends.

        Memory holds a row of chunks.

        Args:
            level: From 0, the finest.
            folder: Where the file is; it takes a byte for each pixel and image.

        Yields:
            `(y, x)` numbers of classes from 1, 8 bits where that is enough, or `(1, y, x, c)` of 0
            and 1 where classes overlap.
        """
        images = [open_labels(self.store, name, level=level) for name in self.names]
        height, width = images[0].shape
        shape = (1, height, width, len(images)) if self.overlapping else (height, width)
        with TemporaryFile(dir=folder) as file:
            # Written as a file, not through memory: a full disk is an error then, not a crash.
            for y in range(0, height, images[0].chunks[0]):
                rows = slice(y, y + images[0].chunks[0])
                file.write(np.stack([self._classes(image[rows]) for image in images], axis=-1).data)
            file.flush()
            yield _Matrix(file, self._dtype, mode="r", shape=shape)

    @property
    def _dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        return np.dtype(np.uint8) if self.class_of is None else self.class_of.dtype

    def _classes(self, pixels: Any) -> NDArray[np.unsignedinteger[Any]]:  # noqa: ANN401
        return np.asarray(pixels if self.class_of is None else self.class_of[pixels], self._dtype)


def class_masks(result: SlideResult) -> ClassMasks:
    """The masks of a result.

    Raises:
        SettingsError: It has none, as its model finds boxes, points or classes of tiles.
        OutputError: The objects table, which tells the classes of instances, cannot be read.
    """
    store, spec = label_store(result, "a DICOM segmentation"), result.record.model
    overlapping = spec.task == "semantic" and spec.overlapping
    # By number: class-10 comes after class-9.
    names = sorted(result.masks, key=lambda name: (len(name), name))
    return ClassMasks(
        store=store,
        names=tuple(names),
        overlapping=overlapping,
        class_of=_class_of_objects(result) if spec.task == "instance" else None,
    )


def _class_of_objects(result: SlideResult) -> NDArray[np.unsignedinteger[Any]]:
    """Class numbers by object number: that of row `i` is at `i + 1`, and 0 is the background."""
    path = result.folder / OBJECTS_FILE
    try:
        table = pq.read_table(path, columns=[_CLASS], read_dictionary=[_CLASS])
    except (OSError, pa.ArrowException) as error:
        msg = f"cannot read '{path}' ({error}): run the slide again with --overwrite"
        raise OutputError(msg) from error
    numbers = {item.name: n for n, item in enumerate(result.record.model.classes, start=1)}
    dtype = np.min_scalar_type(len(numbers))
    parts = [np.zeros(1, dtype)]
    for chunk in table.column(_CLASS).chunks:
        known = np.array([numbers[name] for name in chunk.dictionary.to_pylist()], dtype)
        parts.append(known[chunk.indices.to_numpy()])
    return np.concatenate(parts)
