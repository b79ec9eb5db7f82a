"""What an earlier run left in a slide's folder: a whole result, regions, or nothing of use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from slideloom.errors import OutputError
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.flows import TaskFlow
from slideloom.workflows.places import (
    Folder,
    is_there,
    names_in,
    read_bytes,
    remove,
    whole_in,
)
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.result import (
    COUNTS_FILE,
    LABELS_FOLDER,
    OBJECTS_FILE,
    PROBABILITIES_FOLDER,
    RECORD_FILE,
    REPORT_FILE,
    WORK_FOLDER,
    RunRecord,
    SlideResult,
    load_result,
    read_record,
)

__all__ = ["Earlier", "clear_work", "look_back"]

_PLAN_FILE = "plan.json"
"""In the work folder: the parts of the plan that the regions there belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What there is.

    Attributes:
        result: A whole result of the same plan; None where there is none.
        anew: Why what is there cannot be kept; empty where it can, or where nothing is there.
    """

    result: SlideResult | None = None
    anew: str = ""


def look_back(out: Folder, plan: RunPlan, *, config: RunConfig, flow: TaskFlow[Any]) -> Earlier:
    """Look at a slide's folder; nothing is changed in it.

    Args:
        out: The slide's folder.
        plan: Of the run that begins.
        config: Its settings.
        flow: Of the plan's task.
    """
    record = _record(out)
    if record is None:
        return Earlier(anew=_work_differs(out / WORK_FOLDER, plan))
    if config.overwrite:
        return Earlier(anew="--overwrite was given")
    if record.key != plan.key:
        return Earlier(anew=_difference(record.parts, plan.parts))
    # A file of stain vectors may say something else under the same name.
    if record.settings.measure != config.measure or record.stain_vectors != plan.stain_vectors:
        return Earlier(anew="what is measured has changed")
    there = whole_in(out)
    missing = [name for name in _files(plan, flow) if name not in there]
    if missing:
        return Earlier(anew=f"its {', '.join(missing)} is missing")
    return Earlier(result=load_result(out))


def clear_work(out: Folder, plan: RunPlan, *, overwrite: bool) -> Folder:
    """The folder for the plan's regions; what another plan left in the work folder is removed."""
    work = out / WORK_FOLDER
    for old in names_in(work) - {_PLAN_FILE}:
        if old != plan.key or overwrite:
            remove(work / old)
    if isinstance(work, Path):
        work.mkdir(parents=True, exist_ok=True)
    with atomic_file(work / _PLAN_FILE) as file:
        file.write(orjson.dumps(dict(plan.parts)))
    return work / plan.key


def _record(out: Folder) -> RunRecord | None:
    # A store that does not answer has not said that there is none.
    if not is_there(out / RECORD_FILE):
        return None
    try:
        return read_record(out)
    except OutputError:
        return None


def _work_differs(work: Folder, plan: RunPlan) -> str:
    """Why the regions in the work folder are of no use; empty where they are, or there are none."""
    try:
        parts = orjson.loads(read_bytes(work / _PLAN_FILE))
    except (OSError, orjson.JSONDecodeError):
        return ""
    return "" if parts == dict(plan.parts) else _difference(parts, plan.parts)


def _difference(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Which parts of two plans differ, as a sentence."""
    changed = [name for name in new if old.get(name) != new[name]]
    return f"changed since: {', '.join(changed)}"


def _files(plan: RunPlan, flow: TaskFlow[Any]) -> Iterable[str]:
    """Without which a result is not whole."""
    yield from (OBJECTS_FILE, COUNTS_FILE, REPORT_FILE)
    if flow.label_images(plan.spec):
        yield LABELS_FOLDER
    if flow.probability_image(plan):
        yield PROBABILITIES_FOLDER
