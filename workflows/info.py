"""What a slide or a model states, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from slideloom.models.spec import ModelSpec
from slideloom.wsi import Mpp, open_slide


class LevelInfo(BaseModel):
    """One level of a slide: size and stored tile in pixels, downsample from level 0."""

    model_config = ConfigDict(frozen=True)

    width: int
    height: int
    downsample: float
    tile_width: int
    tile_height: int


class SlideInfo(BaseModel):
    """What `slideloom info` prints.

    Attributes:
        path: As given.
        reader: That serves the file.
        mpp_x: Micrometres per level-0 pixel along x; None where the file states none.
        mpp_y: The same along y.
        bounds_x: Level-0 pixel where the scanned part starts.
        bounds_y: The same downwards.
        channels: Names of the stored channels.
        dtype: Type of the stored pixels, as NumPy names it.
        levels: Finest first.
        associated_images: Names of the images beside the pyramid.
        properties: What else the file states, in its own words.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    reader: str
    mpp_x: float | None
    mpp_y: float | None
    bounds_x: int
    bounds_y: int
    channels: tuple[str, ...]
    dtype: str
    levels: tuple[LevelInfo, ...]
    associated_images: tuple[str, ...]
    properties: dict[str, str]


def describe_slide(
    path: str | Path, *, mpp: float | None = None, reader: str | None = None
) -> SlideInfo:
    """Open a slide and list what it states.

    Raises:
        SlideNotFoundError: There is no such file.
        SlideFormatError: No reader opens it.
    """
    with open_slide(path, mpp=mpp, reader=reader) as slide:
        return SlideInfo(
            path=str(path),
            reader=slide.reader_name,
            mpp_x=slide.mpp.x if slide.mpp else None,
            mpp_y=slide.mpp.y if slide.mpp else None,
            bounds_x=int(slide.bounds_offset.x),
            bounds_y=int(slide.bounds_offset.y),
            channels=slide.channels,
            dtype=str(slide.dtype),
            levels=tuple(
                LevelInfo(
                    width=level.size.width,
                    height=level.size.height,
                    downsample=level.downsample,
                    tile_width=level.tile.width,
                    tile_height=level.tile.height,
                )
                for level in slide.levels
            ),
            associated_images=tuple(slide.associated_images),
            properties=dict(slide.properties),
        )


def print_slide(slide: SlideInfo) -> None:
    """Print a slide's facts, without its long list of properties."""
    console = Console()
    console.print(f"{slide.path}", highlight=False)
    console.print(f"  reader      {slide.reader}", highlight=False)
    console.print(f"  mpp         {_mpp_words(slide)}", highlight=False)
    console.print(f"  channels    {', '.join(slide.channels)} ({slide.dtype})", highlight=False)
    if slide.bounds_x or slide.bounds_y:
        console.print(f"  bounds at   {slide.bounds_x}, {slide.bounds_y} px", highlight=False)
    console.print(f"  associated  {', '.join(slide.associated_images) or 'none'}", highlight=False)
    table = Table("level", "width", "height", "downsample", "tile")
    for number, level in enumerate(slide.levels):
        table.add_row(
            str(number),
            str(level.width),
            str(level.height),
            f"{level.downsample:g}",
            f"{level.tile_width} x {level.tile_height}",
        )
    console.print(table)


def _mpp_words(slide: SlideInfo) -> str:
    if slide.mpp_x is None or slide.mpp_y is None:
        return "none stated: pass --mpp to run"
    if not Mpp(x=slide.mpp_x, y=slide.mpp_y).is_square:
        return f"{slide.mpp_x:g} um/px along x, {slide.mpp_y:g} along y: pass --mpp to run"
    return f"{slide.mpp_x:g} um/px"


def print_models(specs: Sequence[ModelSpec]) -> None:
    """Print one row for each model."""
    table = Table("name", "task", "classes", "um/px", "licence")
    for spec in specs:
        classes = ", ".join(item.name for item in spec.classes)
        table.add_row(spec.name, spec.task, classes, f"{spec.mpp:g}", spec.licence)
    Console().print(table)
