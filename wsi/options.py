"""How a slide is to be opened and read."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from slideloom.errors import SettingsError
from slideloom.wsi.display import Display

BadTilePolicy = Literal["error", "blank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideOptions:
    """What a user can choose about opening a slide.

    Attributes:
        mpp: Micrometres per level-0 pixel, in place of what the file states.
        reader: Name of a reader; None takes the first that serves the file.
        display: Which channels and values to show; None is enough for 8-bit RGB and grey.
        on_bad_tile: A stored tile that cannot be decoded is an `"error"`, or `"blank"`:
            read as background, and counted.
    """

    mpp: float | None = None
    reader: str | None = None
    display: Display | None = None
    on_bad_tile: BadTilePolicy = "error"

    def __post_init__(self) -> None:
        if self.mpp is not None and not 0 < self.mpp < inf:
            msg = (
                f"mpp must be above 0 and finite, got {self.mpp}: "
                "give micrometres per level-0 pixel"
            )
            raise SettingsError(msg)
        if self.on_bad_tile not in ("error", "blank"):
            msg = f"a bad tile is an 'error' or 'blank', got {self.on_bad_tile!r}"
            raise SettingsError(msg)
