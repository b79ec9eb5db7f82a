"""How the words of annotation files become the classes of a model."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AnnotationRules(BaseModel):
    """What to take from annotation files, and under which names.

    Attributes:
        classes: From names in the files to the model's classes; None leaves the objects out, as
            background. An empty mapping takes the names as they are. The keys for label images are
            pixel values (`"1"`), and colours (`"#ff0000"`) for colour masks; value 0 and black are
            background unless they are named here.
        roi: Names of the areas in which the annotations are complete, with `*` and `?` as
            wildcards, in upper or lower case. A name is the class, or, for an object of QuPath
            without a class, the object's own name. A name that `classes` holds is never a ROI.
        ignore: Names of areas about which nothing is known, in the same way.
        default_class: The model's class of objects for which the file states none.
        instances: Whether each value of a label image is one object, of `default_class`; otherwise
            each value is a class, and its connected areas are the objects.
        threshold: For masks with soft edges: pixels above it are `default_class`, others
            background.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, str | None] = Field(default_factory=dict)
    roi: tuple[str, ...] = ("ROI", "Region*", "Training area")
    ignore: tuple[str, ...] = ("Ignore*",)
    default_class: str | None = None
    instances: bool = False
    threshold: int | None = Field(default=None, ge=0, lt=65535)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.instances or self.threshold is not None) and self.default_class is None:
            msg = "label images of instances, and masks with a threshold, need a default_class"
            raise ValueError(msg)
        if self.instances and self.threshold is not None:
            msg = "a label image holds either instances or a soft mask with a threshold, not both"
            raise ValueError(msg)
        return self

    def is_roi(self, name: str) -> bool:
        """Whether objects of this name are areas in which the annotations are complete."""
        return name not in self.classes and _matches(name, self.roi)

    def is_ignored(self, name: str) -> bool:
        """Whether objects of this name are areas about which nothing is known."""
        return name not in self.classes and _matches(name, self.ignore)

    def is_known(self, name: str) -> bool:
        """Whether the rules say what to do with objects of this name."""
        return name in self.classes or self.is_roi(name) or self.is_ignored(name)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)
