"""Open slides, read their pixels, write pyramids."""

from slideloom.wsi.display import Display, ValueRange
from slideloom.wsi.geometry import Box, Level, Mpp, Size
from slideloom.wsi.options import SlideOptions
from slideloom.wsi.slide import Slide, open_slide

__all__ = [
    "Box",
    "Display",
    "Level",
    "Mpp",
    "Size",
    "Slide",
    "SlideOptions",
    "ValueRange",
    "open_slide",
]
