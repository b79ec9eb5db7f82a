"""The options by which every command opens slides, as words of a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slideloom.errors import SettingsError

# The imports inside functions keep `slideloom --help` quick.
if TYPE_CHECKING:
    from slideloom.wsi import Display, SlideOptions, ValueRange
    from slideloom.wsi.options import BadTilePolicy

MppOption = Annotated[
    float | None,
    typer.Option("--mpp", help="Micrometres per level-0 pixel, in place of what the file states."),
]
ReaderOption = Annotated[
    str | None,
    typer.Option(
        "--reader", help="Reader to use.", show_default="the first one that serves the file"
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--channels",
        help="Channel to show as grey, or three to show as red, green and blue: names or numbers "
        "from 0, with commas between.",
    ),
]
DisplayRangeOption = Annotated[
    str | None,
    typer.Option(
        "--display-range",
        help="LOW:HIGH, the stored values to show as black and as full brightness; one for all "
        "channels, or one for each with commas between.",
    ),
]
OnBadTileOption = Annotated[
    str,
    typer.Option(
        "--on-bad-tile", help="A stored tile that cannot be decoded: error, or blank and counted."
    ),
]


def slide_options(
    *,
    mpp: float | None,
    reader: str | None,
    channels: str | None,
    display_range: str | None,
    on_bad_tile: str,
) -> SlideOptions:
    """What a user wrote as options of slides.

    Raises:
        SettingsError: One of them makes no sense.
    """
    from slideloom.wsi import SlideOptions

    return SlideOptions(
        mpp=mpp,
        reader=reader,
        display=_display(channels, display_range),
        on_bad_tile=_policy(on_bad_tile),
    )


def _policy(word: str) -> BadTilePolicy:
    match word:
        case "error" | "blank":
            return word
        case _:
            msg = f"--on-bad-tile is error or blank, got {word!r}: choose one"
            raise SettingsError(msg)


def _display(channels: str | None, ranges: str | None) -> Display | None:
    from slideloom.wsi import Display

    if channels is None and ranges is None:
        return None
    return Display(
        channels=None if channels is None else tuple(_words(channels)),
        ranges=None if ranges is None else tuple(_range(word) for word in _words(ranges)),
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _range(word: str) -> ValueRange:
    from slideloom.wsi import ValueRange

    low, _, high = word.partition(":")
    try:
        values = float(low), float(high)
    except ValueError as error:
        msg = f"--display-range wants LOW:HIGH, for example 0:4095, got {word!r}"
        raise SettingsError(msg) from error
    return ValueRange(low=values[0], high=values[1])
