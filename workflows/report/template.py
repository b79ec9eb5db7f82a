"""The templates of the pages: whatever they print is escaped, whatever they misspell is refused."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

from slideloom.workflows.report.numbers import fixed, length_text, measured, mpp_text
from slideloom.workflows.result import (
    COUNTS_FILE,
    OBJECTS_FILE,
    OVERLAY_FILE,
    RECORD_FILE,
    REPORT_FILE,
)

__all__ = ["render"]


def render(name: str, *, page: object) -> str:
    """A page as HTML.

    Args:
        name: Of the template.
        page: What it reads as `page`.
    """
    here = files(__package__)
    environment = Environment(
        loader=FunctionLoader(lambda file: here.joinpath(file).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": fixed,
        "measured": measured,
        "mpp": mpp_text,
        "um": length_text,
        "zip": zip,
    }
    environment.globals |= {
        "counts_file": COUNTS_FILE,
        "objects_file": OBJECTS_FILE,
        "overlay_file": OVERLAY_FILE,
        "record_file": RECORD_FILE,
        "report_file": REPORT_FILE,
    }
    return environment.get_template(name).render(page=page)
