"""The figures that tell whether to trust a result, each with what it means and when to worry."""

from __future__ import annotations

from dataclasses import dataclass

from slideloom.workflows.report.numbers import fixed, mpp_text
from slideloom.workflows.result import RunRecord

__all__ = ["HIGH_SEAM_SCORE", "QualityFigure", "concerns", "quality_figures"]

HIGH_SEAM_SCORE = 0.25
"""Above it a person should look at the borders of tiles.

Nuclei that a network draws differently by a pixel from tile to tile give 0.1 to 0.2; a network
on a slide of a wrong scale gives 0.6.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFigure:
    """One figure of `qa` in `result.json`, in words.

    Attributes:
        name: What a reader calls it.
        source: The field of `result.json` that it is read from.
        value: As it stands there; None where there is nothing to tell.
        text: The value with its unit.
        meaning: One or two sentences: what it says, and when to worry.
        concern: What is wrong with this slide's figure and what to do; empty where nothing is.
    """

    name: str
    source: str
    value: float | None
    text: str
    meaning: str
    concern: str = ""


def quality_figures(record: RunRecord) -> tuple[QualityFigure, ...]:
    """All figures of a result, the ones that need a look most often first.

    Those of objects that several tiles see are left out for classification.
    """
    shared = (_seam, _recombined, _conflicts) if record.model.task != "classification" else ()
    each = (*shared, _tissue, _tiles, _bad_tiles, _read_mpp)
    return tuple(figure(record) for figure in each)


def concerns(record: RunRecord) -> tuple[str, ...]:
    """What to look at before the result is used, one sentence each; empty where all is well."""
    return tuple(figure.concern for figure in quality_figures(record) if figure.concern)


def _seam(record: RunRecord) -> QualityFigure:
    score = record.qa.seam_score
    concern = ""
    if score is not None and score > HIGH_SEAM_SCORE:
        concern = (
            f"seam score {score:.3f} is above {HIGH_SEAM_SCORE:g}: tiles disagree where they meet, "
            "so check objects along their borders"
        )
    return QualityFigure(
        name="Seam score",
        source="qa.seam_score",
        value=score,
        text="no borders to compare" if score is None else f"{score:.3f}",
        meaning=(
            "Share of the places along tile borders, among those where a tile sees an object, at "
            "which the two tiles disagree: 0 is best, 1 is worst. "
            f"Worry above {HIGH_SEAM_SCORE:g}."
        ),
        concern=concern,
    )


def _recombined(record: RunRecord) -> QualityFigure:
    return QualityFigure(
        name="Recombined objects",
        source="qa.recombined",
        value=record.qa.recombined,
        text=_of_objects(record.qa.recombined, record),
        meaning=(
            "Objects that a tile's border cut and that were joined again from their pieces. "
            "Normal for objects that are large beside a tile; worry when many small ones, such as "
            "nuclei, had to be joined."
        ),
    )


def _conflicts(record: RunRecord) -> QualityFigure:
    return QualityFigure(
        name="Conflicts",
        source="qa.conflicts",
        value=record.qa.conflicts,
        text=_of_objects(record.qa.conflicts, record),
        meaning=(
            "Pairs of objects, found by different tiles, that claimed the same pixels; each pixel "
            "went to one of them. A few are normal; worry when they are many beside the number "
            "of objects."
        ),
    )


def _tissue(record: RunRecord) -> QualityFigure:
    if not record.settings.tissue:
        meaning = "The run was told not to look for tissue: the whole slide counts as tissue."
    else:
        meaning = (
            "Part of the slide's area in which tissue was found; only there were objects looked "
            "for. Worry when the picture shows more tissue, or less, than this."
        )
    return QualityFigure(
        name="Tissue",
        source="qa.tissue_percent",
        value=record.qa.tissue_percent,
        text=f"{fixed(record.qa.tissue_percent, 2)} %",
        meaning=meaning,
    )


def _tiles(record: RunRecord) -> QualityFigure:
    done, all_tiles = record.qa.tiles_predicted, record.qa.tiles
    return QualityFigure(
        name="Tiles predicted",
        source="qa.tiles_predicted",
        value=done,
        text=f"{done:,} of {all_tiles:,}",
        meaning=(
            "Tiles that the model was shown; the others hold no tissue or lie outside the ROIs. "
            "Worry at 0."
        ),
        concern="" if done else _why_no_tile(record),
    )


def _why_no_tile(record: RunRecord) -> str:
    if record.model.task == "classification" and record.settings.roi is not None:
        return (
            "no tile was predicted: no ROI holds the centre of a tile with tissue; draw larger "
            "ROIs, or run with --no-tissue"
        )
    return (
        "no tile was predicted: no tissue was found in the area asked for; where there is tissue, "
        "run with --no-tissue"
    )


def _bad_tiles(record: RunRecord) -> QualityFigure:
    count = record.qa.bad_tiles
    return QualityFigure(
        name="Bad tiles",
        source="qa.bad_tiles",
        value=count,
        text=f"{count:,}",
        meaning=(
            "Stored tiles of the slide's file that are damaged and were read as blank. "
            "Worry at any."
        ),
        concern=f"{count} damaged tile{'s were' if count > 1 else ' was'} read as blank: "
        "objects may be missing there"
        if count
        else "",
    )


def _read_mpp(record: RunRecord) -> QualityFigure:
    read, own, trained = record.qa.read_mpp, record.slide.mpp, record.model.mpp
    concern = ""
    if own > read * 1.001:
        concern = (
            f"the slide's finest level has {mpp_text(own)} and was enlarged to {mpp_text(read)} "
            "for the model: details that it needs may be missing"
        )
    return QualityFigure(
        name="Read resolution",
        source="qa.read_mpp",
        value=read,
        text=mpp_text(read),
        meaning=(
            f"Size of the pixels that the model saw; it was trained at {mpp_text(trained)}. "
            f"Worry when the slide's own pixels, {mpp_text(own)}, are larger."
        ),
        concern=concern,
    )


def _of_objects(count: int, record: RunRecord) -> str:
    """A count, and its share of all objects where there are any."""
    total = sum(record.counts.values())
    if not count or not total:
        return f"{count:,}"
    return f"{count:,} ({fixed(100 * count / total, 1)} % of objects)"
