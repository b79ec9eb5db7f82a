"""Objects as the files state them, before names are mapped and shapes are checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import shapely

from slideloom.workflows.annotations.content import Content
from slideloom.workflows.annotations.faults import BadObjectError, FaultLog
from slideloom.workflows.annotations.rules import AnnotationRules
from slideloom.wsi.geometry import Point, Size

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """The image whose annotations are asked for.

    Attributes:
        size: Level 0.
        mpp: Micrometres per level-0 pixel, where it is known.
        image: The image's file name, for files that serve many images.
        rules: Of class names and label images.
        bounds_offset: Where the image as QuPath shows it begins, in level-0 pixels.
    """

    size: Size
    mpp: float | None
    image: str | None
    rules: AnnotationRules
    bounds_offset: Point


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawObject:
    """One object of a file.

    Attributes:
        label: Which object it is, in the file's own words, for the report.
        geometry: Polygon, MultiPolygon or Point in level-0 pixels; a polygon may be invalid.
        names: What may be its class, the likeliest first; empty where the file states none.
        title: The object's own name, which may mark it as a ROI.
        cut: Areas to take out of it; they may be invalid.
        ignored: Whether it is an area about which nothing is known, whatever its class.
    """

    label: str
    geometry: shapely.Geometry
    names: tuple[str, ...] = ()
    title: str = ""
    cut: tuple[shapely.Geometry, ...] = ()
    ignored: bool = False


class Reader(Protocol):
    """What reads the objects of a file; what is wrong goes into the log."""

    def __call__(self, content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
        """The objects in drawing order.

        Raises:
            DamagedFileError: Nothing of the file can be used.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format of annotations.

    Attributes:
        name: As its users call it.
        matches: Whether a file is of this format.
        read: What reads it.
    """

    name: str
    matches: Callable[[Content], bool]
    read: Reader


def collect(
    items: Iterable[tuple[str, Item]],
    read: Callable[[str, Item], list[RawObject]],
    *,
    log: FaultLog,
) -> list[RawObject]:
    """The objects of all items, and a fault for each item that cannot be read.

    Args:
        items: Labels for the report, and what the file says.
        read: From label and item to objects.
        log: Takes the faults.
    """
    found: list[RawObject] = []
    for label, item in items:
        try:
            found += read(label, item)
        except BadObjectError as error:
            log.add(str(error), object=label)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # What a file of another shape raises: it has been checked as far as its format goes.
            problem = f"not as the format says ({type(error).__name__}: {error}): left out"
            log.add(problem, object=label)
    return found


def state_other_size(log: FaultLog, *, stated: Size, size: Size) -> None:
    """Note that a file was made for an image of another size."""
    log.add(
        f"made for an image of {stated.width} x {stated.height} px, and this one has "
        f"{size.width} x {size.height}: check that they belong together"
    )
