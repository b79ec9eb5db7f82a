"""`report.html`: the page on one slide's result that a person looks at first."""

from slideloom.workflows.report.page import render_report, write_report
from slideloom.workflows.report.quality import QualityFigure, concerns, quality_figures

__all__ = ["QualityFigure", "concerns", "quality_figures", "render_report", "write_report"]
