"""Words that DICOM annotations and segmentations share: codes, identifiers, dates, equipment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from pydicom.uid import generate_uid

from slideloom.models.spec import ModelClass
from slideloom.workflows.result import RECORD_FILE, RunRecord, SlideResult

# The imports inside functions let slideloom do without highdicom.
if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset

__all__ = [
    "LOCAL_SCHEME",
    "ClassTerm",
    "SeriesKind",
    "algorithm_of",
    "class_term",
    "instance_of",
    "local_code",
    "new_uid",
    "seal",
    "short_text",
]

LOCAL_SCHEME = "99SLIDELOOM"
_MOST_LETTERS = 64
_MOST_CODE_LETTERS = 16
_DIGEST_LETTERS = 6
_MAKER = "slideloom"
_CHARACTERS = "ISO_IR 192"
"""UTF-8: classes and slides are named in any script."""

SeriesKind = Literal["annotations", "segmentation"]
"""Objects of one kind are one series of the study."""
_SERIES_NUMBERS: dict[SeriesKind, int] = {"annotations": 101, "segmentation": 102}

# SNOMED CT: categories of context group 7150, then types of things.
_ANATOMY = ("91723000", "Anatomical Structure")
_SICK = ("49755003", "Morphologically Abnormal Structure")
_TISSUE = ("85756007", "Tissue")
_ANYTHING = ("309825002", "Spatial and Relational Concept")
_NUCLEUS = ("84640000", "Nucleus")
_CELL = ("4421005", "Cell")
_NEOPLASM = ("108369006", "Neoplasm")
_KNOWN = {
    "nucleus": (_ANATOMY, _NUCLEUS),
    "nuclei": (_ANATOMY, _NUCLEUS),
    "cell": (_ANATOMY, _CELL),
    "cells": (_ANATOMY, _CELL),
    "tissue": (_TISSUE, _TISSUE),
    "connective tissue": (_TISSUE, ("21793004", "Connective tissue")),
    "necrosis": (_SICK, ("6574001", "Necrosis")),
    "neoplasm": (_SICK, _NEOPLASM),
    "tumor": (_SICK, _NEOPLASM),
    "tumour": (_SICK, _NEOPLASM),
}
"""Classes that SNOMED CT has a word for, in small letters: category and type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTerm:
    """A class of a model in DICOM's words.

    Attributes:
        label: Its name, as far as 64 letters hold it.
        category: The kind of thing that it is.
        type: What it is: a SNOMED CT code, or one of slideloom's own scheme.
        color: For display.
    """

    label: str
    category: CodedConcept
    type: CodedConcept
    color: CIELabColor


def class_term(item: ModelClass) -> ClassTerm:
    """The words for one class of a model."""
    from highdicom.color import CIELabColor

    known = _KNOWN.get(item.name.strip().lower().replace("_", " "))
    return ClassTerm(
        label=short_text(item.name),
        category=_snomed(known[0] if known else _ANYTHING),
        type=_snomed(known[1]) if known else local_code(item.name),
        color=CIELabColor.from_rgb(*item.color),
    )


def local_code(name: str) -> CodedConcept:
    """A code of slideloom's own scheme, which means what it is called.

    Codes have 16 letters at most: that of a longer name ends with a digest of it.
    """
    from highdicom.sr import CodedConcept

    meaning = value = short_text(name)
    if len(meaning) > _MOST_CODE_LETTERS:
        digest = sha256(name.encode()).hexdigest()[:_DIGEST_LETTERS]
        value = f"{meaning[: _MOST_CODE_LETTERS - _DIGEST_LETTERS - 1]}-{digest}"
    return CodedConcept(value, LOCAL_SCHEME, meaning)


def _snomed(word: tuple[str, str]) -> CodedConcept:
    from highdicom.sr import CodedConcept

    value, meaning = word
    return CodedConcept(value, "SCT", meaning)


def short_text(text: str, *, forbidden: str = "\\", most: int = _MOST_LETTERS) -> str:
    """The text as a DICOM string of at most 64 letters, with `_` for those that are forbidden.

    What cannot be printed is left out; where nothing stays, the text is `_`.
    """
    kept = "".join(
        "_" if letter in forbidden else letter for letter in text if letter.isprintable()
    )
    return kept.strip()[:most].strip() or "_"


def algorithm_of(record: RunRecord) -> AlgorithmIdentificationSequence:
    """The model as the algorithm that found the objects; its version is that of its weights."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    spec = record.model
    version = spec.weights_sha256[:_MOST_CODE_LETTERS] if spec.weights_sha256 else _version(record)
    return hd.AlgorithmIdentificationSequence(
        name=short_text(spec.name), family=codes.cid7162.ArtificialIntelligence, version=version
    )


def new_uid(result: SlideResult, source: Dataset, *words: str) -> str:
    """An identifier that follows from the result, the image it refers to and the words."""
    names = [result.record.key, str(source.SOPInstanceUID), *words]
    return str(generate_uid(entropy_srcs=["slideloom result", *names]))


def instance_of(
    result: SlideResult, source: Dataset, *, kind: SeriesKind, number: int
) -> dict[str, Any]:
    """What highdicom asks of every new object, as arguments.

    Args:
        result: A finished slide.
        source: The image that the object refers to.
        kind: Tells the series.
        number: Of the object in its series, from 1.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    record = result.record
    when = _date_of(result)
    scheme = CodingSchemeIdentificationItem(
        LOCAL_SCHEME, name="Classes of slideloom's models, called by their names"
    )
    return {
        "series_instance_uid": new_uid(result, source, kind),
        "series_number": _SERIES_NUMBERS[kind],
        "series_description": short_text(f"{record.model.name} ({_MAKER})"),
        "series_date": when.date(),
        "series_time": when.time(),
        "content_date": when.date(),
        "content_time": when.time(),
        "sop_instance_uid": new_uid(result, source, kind, str(number)),
        "instance_number": number,
        "manufacturer": _MAKER,
        "manufacturer_model_name": _MAKER,
        "software_versions": _version(record),
        "device_serial_number": _version(record),
        "specific_character_set": _CHARACTERS,
        "coding_schemes": [scheme],
    }


def seal(dataset: Dataset, result: SlideResult) -> None:
    """Date the object as the result, so that the same result gives the same file."""
    when = _date_of(result)
    dataset.InstanceCreationDate = when.date()
    dataset.InstanceCreationTime = when.time()
    # The last entry is highdicom's own.
    dataset.ContributingEquipmentSequence[-1].ContributionDateTime = when.replace(tzinfo=None)


def _date_of(result: SlideResult) -> datetime:
    seconds = int((result.folder / RECORD_FILE).stat().st_mtime)
    return datetime.fromtimestamp(seconds, UTC)


def _version(record: RunRecord) -> str:
    return short_text(record.versions.get(_MAKER, "0"))
