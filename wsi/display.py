"""From stored channels to the 8-bit RGB that networks and people look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.wsi.geometry import Box, Level
from slideloom.wsi.readers.reader import RGB_CHANNELS, PixelSource, Reader

_GREY, _COLOUR = 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRange:
    """Stored values that are shown as 0 and as 255; between them the scale is linear."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -inf < self.low < self.high < inf:
            msg = f"a display range goes from a lower to a higher value, got {self.low}:{self.high}"
            raise SettingsError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How a slide that is not 8-bit RGB is shown.

    Attributes:
        channels: One channel, shown as grey, or three, shown as red, green and blue; by name or
            by number from 0. None takes the only channel of a slide that has one.
        ranges: One range for all of them, or one for each. None takes 0 to 255 of 8-bit pixels.
    """

    channels: tuple[str | int, ...] | None = None
    ranges: tuple[ValueRange, ...] | None = None

    def __post_init__(self) -> None:
        if self.channels is not None and len(self.channels) not in (_GREY, _COLOUR):
            msg = f"one channel or three can be shown, got {len(self.channels)}: {self.channels}"
            raise SettingsError(msg)


class DisplayedPixels:
    """A reader's pixels as 8-bit RGB.

    Values outside a channel's range are shown as its ends. Halves round up.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, reader: Reader, source: PixelSource, *, display: Display | None) -> None:
        """Show `source`, whose channels are those of `reader`.

        Raises:
            SettingsError: The settings do not say which channels or values to show, or name
                channels that are not there.
        """
        self._source = source
        self._chosen = _choose_channels(reader, display or Display())
        self._lookup = _Scaling.of(reader, display or Display(), shown=len(self._chosen))
        shown = self._show(np.array([[reader.background]], dtype=reader.dtype))
        self.background = tuple(int(value) for value in shown[0, 0])

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest first."""
        return self._source.levels

    def read(self, box: Box, level: int) -> NDArray[np.uint8]:
        """`(y, x, 3)` RGB of a box inside the level."""
        return self._show(self._source.read(box, level))

    def _show(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        shown = self._lookup.apply(pixels[..., self._chosen])
        return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], _COLOUR)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scaling:
    """`low` and `gain` `(shown channels,)`; None for pixels that are shown as they are."""

    low: NDArray[np.float32] | None
    gain: NDArray[np.float32]

    @classmethod
    def of(cls, reader: Reader, display: Display, *, shown: int) -> _Scaling:
        if display.ranges is None:
            if reader.dtype != np.uint8:
                msg = (
                    f"the slide's pixels are {reader.dtype}: say with --display-range LOW:HIGH "
                    "which values to show as black and as full brightness"
                )
                raise SettingsError(msg)
            return cls(low=None, gain=np.ones(0, np.float32))
        if len(display.ranges) not in (1, shown):
            msg = (
                f"{len(display.ranges)} display ranges were given for {shown} channels: "
                "give one for all, or one for each"
            )
            raise SettingsError(msg)
        return cls(
            low=np.array([item.low for item in display.ranges], np.float32),
            gain=np.array([255 / (item.high - item.low) for item in display.ranges], np.float32),
        )

    def apply(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if self.low is None:
            return np.asarray(pixels, dtype=np.uint8)
        scaled = (pixels.astype(np.float32) - self.low) * self.gain
        clipped: NDArray[np.uint8] = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
        return clipped


def _choose_channels(reader: Reader, display: Display) -> list[int]:
    if display.channels is None:
        if len(reader.channels) == _GREY:
            return [0]
        if reader.channels == RGB_CHANNELS:
            return [0, 1, 2]
        msg = (
            f"the slide has {len(reader.channels)} channels ({', '.join(reader.channels)}): "
            "say with --channels which one, or which three, to show"
        )
        raise SettingsError(msg)
    return [_index_of(channel, reader.channels) for channel in display.channels]


def _index_of(channel: str | int, names: Sequence[str]) -> int:
    if isinstance(channel, str) and channel in names:
        return names.index(channel)
    number = int(channel) if str(channel).isdecimal() else -1
    if not 0 <= number < len(names):
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(names))
        msg = f"the slide has no channel {channel!r}: choose from {listed}"
        raise SettingsError(msg)
    return number
