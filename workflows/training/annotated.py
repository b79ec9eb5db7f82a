"""Open images and read their annotations: what is learnt from, kept in memory without pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.errors import SettingsError, SlideloomError
from slideloom.models.spec import ModelClass, Task
from slideloom.workflows.annotations import Fault, ReadAnnotations, read_annotations
from slideloom.workflows.training.config import TrainConfig, classes_of_names
from slideloom.workflows.training.samples import Sample
from slideloom.wsi import Slide, open_slide
from slideloom.wsi.geometry import Size
from slideloom.wsi.scaled import reading_mpp, scaled_size

__all__ = ["AnnotatedImage", "TrainingData", "read_samples"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnotatedImage:
    """An image and what is known of it.

    Attributes:
        sample: Its files, case and split.
        size: Pixels of level 0.
        mpp: Micrometres per level-0 pixel.
        stated: Whether the file states them; else it is opened with `mpp`.
        read_mpp: The mpp at which tiles are read: that of a level within 2 % of the model's, else
            the model's.
        geometry: `(n,)`, shapely Polygons, MultiPolygons and Points in level-0 pixels, in drawing
            order.
        class_id: `(n,)`, int16: index of each object's class.
        labels: `(k,)`, bool: classes of the image as a whole.
        area: Where annotations are complete, in level-0 pixels; None is the whole image.
    """

    sample: Sample
    size: Size
    mpp: float
    stated: bool
    read_mpp: float
    geometry: NDArray[np.object_]
    class_id: NDArray[np.int16]
    labels: NDArray[np.bool_]
    area: shapely.Geometry | None

    @property
    def scale(self) -> float:
        """Level-0 pixels per pixel of a tile."""
        return self.read_mpp / self.mpp

    @property
    def extent(self) -> Size:
        """Pixels of the image at `read_mpp`; see `Slide.size_at_mpp`."""
        return scaled_size(self.size, self.scale)

    @property
    def shown(self) -> frozenset[int]:
        """Indices of the classes that the image or an object in it has."""
        return frozenset(np.flatnonzero(self.labels).tolist()) | set(self.class_id.tolist())

    def open(self) -> Slide:
        """The slide, opened; it may raise what `open_slide` raises."""
        return open_slide(self.sample.image, mpp=None if self.stated else self.mpp)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingData:
    """All that a model is trained and tuned on, but for pixels.

    Attributes:
        images: With their annotations.
        classes: In channel order.
        mpp: Micrometres per pixel of the model.
        faults: What is wrong with files and objects; they are left out as each fault says.
    """

    images: tuple[AnnotatedImage, ...]
    classes: tuple[ModelClass, ...]
    mpp: float
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Opened:
    """A sample whose image was opened and whose annotations were read."""

    sample: Sample
    size: Size
    mpp: float | None
    stated: bool
    downsamples: tuple[float, ...]
    annotations: ReadAnnotations | None


def read_samples(samples: Sequence[Sample], config: TrainConfig, *, task: Task) -> TrainingData:
    """Open every image once, read its annotations, and settle the model's classes and mpp.

    Images that cannot be opened, or are too coarse for the model, and objects of classes that the
    config does not list are left out, with a fault each.

    Args:
        samples: See `find_samples`.
        config: The settings.
        task: What the model is to do.

    Raises:
        SettingsError: No image states its mpp and `image_mpp` is not given, no image or no class is
            left, or the classes cannot be told apart.
        AnnotationError: An annotation file may not be read.
    """
    faults: list[Fault] = []
    opened = [item for sample in samples if (item := _open(sample, config, faults=faults))]
    _check_mpp(opened)
    if not opened:
        msg = f"none of the {len(samples)} images can be used, such as {_words(faults[0])}"
        raise SettingsError(f"{msg}: correct the data")
    mpp = config.mpp or float(f"{max(item.mpp or 0 for item in opened):.4g}")
    classes = config.classes or classes_of_names(sorted(_found_names(opened)))
    _check_classes(classes, config, task=task)
    images = tuple(
        image
        for item in opened
        if (image := _annotated(item, [c.name for c in classes], mpp=mpp, faults=faults))
    )
    if not images:
        msg = f"none of the {len(samples)} images can be used, such as {_words(faults[0])}"
        raise SettingsError(f"{msg}: correct the data, or classes and mpp of the config")
    return TrainingData(images=images, classes=classes, mpp=mpp, faults=tuple(faults))


def _open(sample: Sample, config: TrainConfig, *, faults: list[Fault]) -> _Opened | None:
    try:
        with open_slide(sample.image) as slide:
            own = slide.mpp if slide.mpp is not None and slide.mpp.is_square else None
            mpp = slide.require_mpp() if own is not None else config.image_mpp
            size, offset = slide.size, slide.bounds_offset
            downsamples = tuple(level.downsample for level in slide.levels)
    except SlideloomError as error:
        faults.append(Fault(file=sample.image, object="", problem=f"{error}; it is left out"))
        return None
    read = None
    if sample.annotations is not None:
        read = read_annotations(
            sample.annotations,
            size=size,
            mpp=mpp,
            image=sample.coco_name,
            rules=config.annotations,
            bounds_offset=offset,
        )
        faults += read.faults
        if read.area is not None and shapely.is_empty(read.area):
            problem = "says nothing of its image, which is left out"
            faults.append(Fault(file=sample.annotations, object="", problem=problem))
            return None
    return _Opened(
        sample=sample,
        size=size,
        mpp=mpp,
        stated=own is not None,
        downsamples=downsamples,
        annotations=read,
    )


def _check_mpp(opened: Sequence[_Opened]) -> None:
    without = [item.sample.image for item in opened if item.mpp is None]
    if without:
        msg = (
            f"{len(without)} images, such as '{without[0].name}', state no single mpp (micrometres "
            "per pixel): set image_mpp in the config to what they were taken at"
        )
        raise SettingsError(msg)


def _found_names(opened: Iterable[_Opened]) -> set[str]:
    names: set[str] = set()
    for item in opened:
        names |= set(item.sample.labels)
        if item.annotations is not None:
            names |= set(item.annotations.objects["class"])
    return names


def _check_classes(classes: Sequence[ModelClass], config: TrainConfig, *, task: Task) -> None:
    if not classes:
        msg = (
            "no class was found in the annotations: set annotations.default_class or "
            "annotations.classes in the config"
        )
        raise SettingsError(msg)
    if task == "classification" and len(classes) == 1 and not config.overlapping:
        msg = (
            f"every image has the class '{classes[0].name}', and to tell classes apart takes two: "
            "add images of another, or set overlapping in the config"
        )
        raise SettingsError(msg)


def _annotated(
    item: _Opened, names: Sequence[str], *, mpp: float, faults: list[Fault]
) -> AnnotatedImage | None:
    sample = item.sample
    own_mpp = item.mpp or mpp
    read_mpp = reading_mpp(mpp, slide_mpp=own_mpp, downsamples=item.downsamples)
    if read_mpp is None:
        problem = (
            f"has {own_mpp:g} um/px at its finest, too coarse for a model of {mpp:g}: it is left "
            "out"
        )
        faults.append(Fault(file=sample.image, object="", problem=problem))
        return None
    labels = np.array([name in sample.labels for name in names], np.bool_)
    if sample.labels and not labels.any():
        problem = f"has the class {' | '.join(sample.labels)}, which is not listed: it is left out"
        faults.append(Fault(file=sample.image, object="", problem=problem))
        return None
    geometry, class_id = _objects(item, names, faults=faults)
    return AnnotatedImage(
        sample=sample,
        size=item.size,
        mpp=own_mpp,
        stated=item.stated,
        read_mpp=read_mpp,
        geometry=geometry,
        class_id=class_id,
        labels=labels,
        area=None if item.annotations is None else item.annotations.area,
    )


def _objects(
    item: _Opened, names: Sequence[str], *, faults: list[Fault]
) -> tuple[NDArray[np.object_], NDArray[np.int16]]:
    """Geometry and class of the objects whose class is listed."""
    if item.annotations is None or item.sample.annotations is None:
        return np.empty(0, object), np.empty(0, np.int16)
    table = item.annotations.objects
    place = {name: k for k, name in enumerate(names)}
    class_id = np.array([place.get(name, -1) for name in table["class"]], np.int16)
    for name, count in sorted(Counter(table["class"][class_id < 0]).items()):
        problem = f"{count} objects of class '{name}', which is not listed: left as background"
        faults.append(Fault(file=item.sample.annotations, object="", problem=problem))
    geometry = np.asarray(table.geometry.to_numpy(), object)
    return geometry[class_id >= 0], class_id[class_id >= 0]


def _words(fault: Fault) -> str:
    return f"'{fault.file}' ({fault.problem})"
