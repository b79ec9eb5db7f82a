"""Open slides, read their pixels, write pyramids."""

from slideloom.wsi.geometry import Box, Level, Mpp, Size
from slideloom.wsi.slide import Slide, open_slide

__all__ = ["Box", "Level", "Mpp", "Size", "Slide", "open_slide"]
