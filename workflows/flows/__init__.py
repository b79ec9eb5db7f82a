"""What a run does differently for each task: the one place where tasks part.

A flow digests the predictions of one region, then weaves the digests of all regions into label
images and objects. A new task is one more flow and one more line in `FLOWS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slideloom.models.spec import Task
from slideloom.workflows.flows.classification import ClassificationFlow
from slideloom.workflows.flows.detection import DetectionFlow
from slideloom.workflows.flows.flow import TaskFlow
from slideloom.workflows.flows.instance import InstanceFlow
from slideloom.workflows.flows.semantic import SemanticFlow

__all__ = ["FLOWS", "TaskFlow", "flow_for"]

FLOWS: Mapping[Task, TaskFlow[Any]] = {
    "classification": ClassificationFlow(),
    "detection": DetectionFlow(),
    "instance": InstanceFlow(),
    "semantic": SemanticFlow(),
}


def flow_for(task: Task) -> TaskFlow[Any]:
    """The flow of a task."""
    return FLOWS[task]
