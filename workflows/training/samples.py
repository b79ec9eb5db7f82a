"""Which images are trained on, with which annotations, and what case and split they are of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.workflows.annotations import Fault
from slideloom.workflows.training.config import ClassesFrom, Split, TrainConfig
from slideloom.workflows.training.files import VECTOR_ENDINGS, FilePair, find_files
from slideloom.workflows.training.listing import Listed, Listing, read_listing

__all__ = ["Sample", "Samples", "find_samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image to learn or to score from.

    Attributes:
        image: The slide or picture.
        annotations: The file of its annotations; None where classes are known of it as a whole.
        coco_name: What a COCO file for all images calls this one; None for other files.
        case: Images of one case are never in two splits that slideloom chooses.
        split: What the user gave; None where that is left to slideloom.
        labels: Classes of the whole image.
    """

    image: Path
    annotations: Path | None
    coco_name: str | None
    case: str
    split: Split | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What a data folder holds: the samples, and what could not be one."""

    samples: tuple[Sample, ...]
    faults: tuple[Fault, ...]


def find_samples(root: Path, config: TrainConfig, *, task: Task) -> Samples:
    """Find the images of a data folder, with annotations, classes, cases and splits.

    No image or annotation is opened. An image without annotations (or without a class, where the
    task is classification) and annotations without an image become faults, and so do images that
    the split file does not name.

    Args:
        root: The data folder.
        config: See `DataConfig` for where things are looked for.
        task: Classification takes its classes from folders or a CSV too.

    Raises:
        SettingsError: The folder holds no sample, or the config names what is not there.
    """
    found = find_files(root, config.data)
    listing = read_listing(root, config.data, images=[pair.image for pair in found.pairs])
    source = _classes_from(config, listing, pairs=found.pairs, task=task)
    samples, faults, met = [], [], set[str]()
    for pair in found.pairs:
        row = listing.find(PurePosixPath(pair.image.relative_to(root).as_posix()))
        if row is None and listing.closed:
            faults.append(_fault(pair.image, "is in no split, so it is left out"))
            continue
        name, listed = row or ("", Listed())
        met.add(name)
        sample = _sample(pair, listed, root=root, config=config, source=source)
        if sample.annotations is None and not sample.labels:
            lacks = "annotations" if source == "annotations" else "class"
            faults.append(_fault(pair.image, f"has no {lacks}, so it is left out"))
            continue
        samples.append(sample)
    if source == "annotations":
        faults += [_fault(path, "belongs to no image") for path in found.strays]
    faults += [
        _fault(root / name, "is listed and not there") for name in listing.rows if name not in met
    ]
    if not samples:
        raise SettingsError(_nothing(root, faults))
    return Samples(samples=tuple(samples), faults=tuple(faults))


def _classes_from(
    config: TrainConfig, listing: Listing, *, pairs: Sequence[FilePair], task: Task
) -> ClassesFrom:
    """Where classes are: as the config says, or where there are some."""
    if task != "classification":
        return "annotations"
    if config.data.classes_from is not None:
        if config.data.classes_from == "csv" and not listing.has_classes:
            msg = "data.classes_from is csv, and no CSV has a column 'class': set data.split to one"
            raise SettingsError(msg)
        return config.data.classes_from
    if listing.has_classes:
        return "csv"
    named = bool(config.data.annotations) or config.data.coco is not None
    files = [pair.annotations.name.lower() for pair in pairs if pair.annotations is not None]
    return "annotations" if named or any(f.endswith(VECTOR_ENDINGS) for f in files) else "folder"


def _sample(
    pair: FilePair, listed: Listed, *, root: Path, config: TrainConfig, source: ClassesFrom
) -> Sample:
    image = pair.image
    labels: tuple[str, ...] = ()
    if source == "csv":
        labels = listed.labels
    elif source == "folder" and image.parent != root:
        labels = (image.parent.name,)
    return Sample(
        image=image,
        annotations=pair.annotations if source == "annotations" else None,
        coco_name=None if config.data.coco is None else image.name,
        case=_case(image, listed, root=root, pattern=config.data.case),
        split=listed.split,
        labels=labels,
    )


def _case(image: Path, listed: Listed, *, root: Path, pattern: str | None) -> str:
    """The case, in folded letters: one patient is often written in two ways."""
    if pattern is not None:
        match = re.search(pattern, image.name)
        if match is None or match[1] is None:
            msg = f"data.case {pattern!r} finds no case in '{image.name}': correct the expression"
            raise SettingsError(msg)
        return match[1].casefold()
    return (listed.case or image.relative_to(root).as_posix()).casefold()


def _fault(file: Path, problem: str) -> Fault:
    return Fault(file=file, object="", problem=problem)


def _nothing(root: Path, faults: Sequence[Fault]) -> str:
    first = f"'{faults[0].file}' {faults[0].problem}" if faults else "it is empty"
    return (
        f"'{root}' holds no image that can be trained on ({first}): put annotations beside the "
        "images under the same name, or set data.annotations in the config"
    )
