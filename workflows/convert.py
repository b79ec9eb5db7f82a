"""A slide written anew as OME-Zarr or OME-TIFF, whole or not at all."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slideloom.errors import OutputError, SettingsError
from slideloom.workflows.batch.live import LiveTable
from slideloom.workflows.control import RunControl
from slideloom.workflows.export.atomic import writing_to
from slideloom.wsi import Slide, SlideOptions
from slideloom.wsi.source import file_name, parse_source
from slideloom.wsi.writing.ome_tiff import TiffCompression, write_ome_tiff
from slideloom.wsi.writing.ome_zarr import OmeVersion, write_ome_zarr
from slideloom.wsi.writing.pyramid import pyramid_sizes, pyramid_tiles

_ZARR_ENDINGS = (".ome.zarr",)
_TIFF_ENDINGS = (".ome.tiff", ".ome.tif")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """How a slide is converted.

    Attributes:
        ome_version: Of OME-NGFF, for `.ome.zarr`: `"0.5"` (None) or `"0.4"`.
        compression: Of `.ome.tiff`: `deflate` (None), `zstd`, `lzw`, `jpeg` or `jpeg2000`.
            `.ome.zarr` is always compressed by zstd, without loss.
        quality: Of `jpeg`, 1 to 100 (None: 90); of `jpeg2000`, decibels (None: lossless).
        workers: Tiles in work at one time; None takes one per core.
        overwrite: Replace what is there.
    """

    ome_version: str | None = None
    compression: str | None = None
    quality: int | None = None
    workers: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            msg = f"--workers must be at least 1, got {self.workers}"
            raise SettingsError(msg)

    def for_zarr(self) -> OmeVersion:
        """The version of OME-NGFF.

        Raises:
            SettingsError: It is unknown, or there are options of OME-TIFF.
        """
        if self.compression is not None or self.quality is not None:
            msg = (
                "--compression and --quality are for .ome.tiff, and .ome.zarr is always zstd: "
                "leave them out, or write to .ome.tiff"
            )
            raise SettingsError(msg)
        match self.ome_version:
            case None | "0.5":
                return "0.5"
            case "0.4":
                return "0.4"
            case _:
                msg = f"--ome-version is 0.5 or 0.4, got {self.ome_version!r}: choose one"
                raise SettingsError(msg)

    def for_tiff(self) -> TiffCompression:
        """How tiles are compressed.

        Raises:
            SettingsError: No such compression or quality, or there are options of OME-Zarr.
        """
        if self.ome_version is not None:
            msg = "--ome-version is for .ome.zarr: leave it out, or write to .ome.zarr"
            raise SettingsError(msg)
        return TiffCompression(name=self.compression or "deflate", quality=self.quality)


def convert_slide(
    slide: Slide,
    out: str | Path,
    *,
    options: ConvertOptions | None = None,
    control: RunControl | None = None,
) -> Path:
    """Write a slide's stored channels and a pyramid of them to `out`.

    Level 0 stays as it is, pixel for pixel unless a lossy compression is chosen; each coarser level
    halves the one before, until both sides are 512 pixels or less. Memory holds about three bands
    of 512 rows of level 0. Associated images, ICC profile and the vendor's properties are not
    copied. A slide without mpp gives a file without physical size.

    It is written under a temporary name beside `out`, and renamed when it is whole; a call that
    fails leaves nothing.

    Args:
        slide: An open slide.
        out: What to write; the ending says what: `.ome.zarr`, `.ome.tiff` or `.ome.tif`.
        options: None takes the defaults.
        control: Told of tiles that are written; None tells nobody.

    Returns:
        The path of what was written.

    Raises:
        SettingsError: The ending is another one, or the options do not fit it or the slide.
        OutputError: There is something at `out`, or it cannot be written.
        SlideFormatError: The slide is damaged.
    """
    target, chosen = Path(out), options or ConvertOptions()
    told = (control or RunControl()).about(slide.name)
    write = _writer(target, chosen)
    _check_target(target, slide, overwrite=chosen.overwrite)

    def advance(tiles: int) -> None:
        told.tell("tiles_done", tiles=tiles)

    stage = told.stage("converting", steps=pyramid_tiles(slide.size))
    with stage, _whole_or_nothing(target) as part:
        write(slide, part, threads=chosen.workers, advance=advance)
    return target


def convert_file(
    path: str, out: Path, *, options: ConvertOptions, slide_options: SlideOptions
) -> None:
    """`convert_slide` with a bar on the terminal, and what a user has to know on standard error.

    Raises:
        SlideloomError: As `convert_slide`, and as `open_slide`.
    """
    with Slide(parse_source(path), slide_options) as slide, LiveTable() as bars:
        convert_slide(slide, out, options=options, control=RunControl(listen=bars.hear))
        if slide.mpp is None:
            _note(
                f"slide '{file_name(slide.path)}' states no mpp, so '{out}' states no physical "
                "size: pass --mpp to give it one"
            )
        if slide.bad_tiles:
            _note(f"{len(slide.bad_tiles)} tiles could not be decoded: they are blank in '{out}'")
        levels = len(pyramid_sizes(slide.size))
        print(f"{out}: {slide.size.width} x {slide.size.height} pixels, {levels} levels")


def _note(message: str) -> None:
    print(f"slideloom: {message}", file=sys.stderr)


def _writer(out: Path, options: ConvertOptions) -> Callable[..., None]:
    name = out.name.lower()
    if name.endswith(_ZARR_ENDINGS):
        return partial(write_ome_zarr, version=options.for_zarr())
    if name.endswith(_TIFF_ENDINGS):
        return partial(write_ome_tiff, compression=options.for_tiff())
    listed = ", ".join((*_ZARR_ENDINGS, *_TIFF_ENDINGS))
    msg = f"'{out.name}' has no ending that can be written: choose one of {listed}"
    raise SettingsError(msg)


def _check_target(out: Path, slide: Slide, *, overwrite: bool) -> None:
    if isinstance(slide.path, Path) and slide.path.resolve() == out.resolve():
        msg = f"'{out}' is the slide itself: choose another output"
        raise SettingsError(msg)
    if isinstance(slide.path, Path) and _is_nested(slide.path, out):
        msg = f"'{out}' and the slide '{slide.path}' lie in one another: choose another output"
        raise SettingsError(msg)
    if not out.parent.is_dir():
        msg = f"there is no folder '{out.parent}' to write to: make it, or choose another output"
        raise OutputError(msg)
    if out.exists() and not overwrite:
        msg = f"'{out}' exists already: choose another output, or pass --overwrite to replace it"
        raise OutputError(msg)


def _is_nested(slide: Path, out: Path) -> bool:
    """Whether writing would add to an OME-Zarr that is read, or replace what holds the slide."""
    inner, outer = slide.resolve(), out.resolve()
    return outer in inner.parents or (inner in outer.parents and slide.suffix.lower() == ".zarr")


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[Path]:
    """A path for the new file or folder, which is at `out` once the block ends without an error.

    It lies in the folder `.NAME.part` beside `out`, so one writer at a time may use a name. What a
    killed process left there is removed by the next try.
    """
    work = out.with_name(f".{out.name}.part")
    with writing_to(out):
        try:
            _remove(work)
            work.mkdir()
            yield work / "new"
            if out.exists():
                out.replace(work / "old")
            (work / "new").replace(out)
        finally:
            _remove(work)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
