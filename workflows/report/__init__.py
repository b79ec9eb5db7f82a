"""`report.html`: the pages that a person looks at first, on one slide's result and on a run."""

from slideloom.workflows.report.page import render_report, write_report
from slideloom.workflows.report.quality import QualityFigure, concerns, quality_figures
from slideloom.workflows.report.run_page import TriedSlide, render_run_report, write_run_report

__all__ = [
    "QualityFigure",
    "TriedSlide",
    "concerns",
    "quality_figures",
    "render_report",
    "render_run_report",
    "write_report",
    "write_run_report",
]
