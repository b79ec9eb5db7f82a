"""Annotations of slides and images: one reader for each format, one form for all."""

from slideloom.workflows.annotations.faults import Fault, fault_table
from slideloom.workflows.annotations.read import ReadAnnotations, read_annotations
from slideloom.workflows.annotations.rules import AnnotationRules

__all__ = ["AnnotationRules", "Fault", "ReadAnnotations", "fault_table", "read_annotations"]
