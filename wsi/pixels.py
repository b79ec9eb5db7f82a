"""An open file and the two ways of seeing its pixels: as stored, and as 8-bit RGB."""

from __future__ import annotations

from functools import cached_property

from slideloom.wsi.display import DisplayedPixels
from slideloom.wsi.options import SlideOptions
from slideloom.wsi.readers.reader import PixelSource, Reader, is_rgb
from slideloom.wsi.tolerant import BadTile, TolerantPixels


class SlidePixels:
    """A reader under the options of its slide."""

    def __init__(self, reader: Reader, options: SlideOptions) -> None:
        self.reader = reader
        self._display = options.display
        self._tolerant = TolerantPixels(reader) if options.on_bad_tile == "blank" else None

    @property
    def raw(self) -> PixelSource:
        """The stored channels."""
        return self._tolerant or self.reader

    @cached_property
    def rgb(self) -> PixelSource:
        """8-bit RGB.

        Raises:
            SettingsError: The file is no 8-bit RGB, and the options do not say what to show.
        """
        if is_rgb(self.reader) and self._display is None:
            return self.raw
        return DisplayedPixels(self.reader, self.raw, display=self._display)

    @property
    def bad_tiles(self) -> tuple[BadTile, ...]:
        """Damaged tiles that were left blank so far."""
        return self._tolerant.bad_tiles if self._tolerant else ()
