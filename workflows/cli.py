"""The command line: `slideloom demo | info | run | export | train | evaluate | convert | models`.

Exit codes: 0 all slides are done; 1 some slides failed, the others are done; 2 the command itself
was wrong. A user sees one line for each fault, and Python's traceback only with `--debug`.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from slideloom.errors import (
    MissingMppError,
    SlideAccessError,
    SlideFormatError,
    SlideloomError,
)
from slideloom.workflows import cli_export, cli_run, cli_training
from slideloom.workflows.options import (
    MppOption,
    OnBadTileOption,
    ReaderOption,
    slide_options,
)

# Imports inside commands keep `slideloom --help` and `slideloom info` free of torch.

# The base of all faults of a command line. Newer typer brings its own copy of click, so click's
# class of that name need not be the one that is raised.
_CommandLineFault: Any = typer.BadParameter.__mro__[2]

_OF_THE_SLIDE = (SlideFormatError, SlideAccessError, MissingMppError)
"""Errors that are the slide's, not the command's."""

app = typer.Typer(
    name="slideloom",
    help="Whole-slide image analysis: tile lazily, predict, and weave the tiles into one result.",
    epilog="--debug, anywhere on the line, shows Python's traceback of an error.",
    add_completion=False,
    no_args_is_help=True,
)
models_app = typer.Typer(no_args_is_help=True, help="The models that can be run.")
app.add_typer(models_app, name="models")
app.add_typer(cli_run.run_app)
app.add_typer(cli_export.export_app)
app.add_typer(cli_training.training_app)
models_app.add_typer(cli_training.models_app)


def main() -> None:
    """Entry point of the `slideloom` command."""
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    code = run_command(arguments, debug=len(arguments) < len(sys.argv) - 1)
    if code == cli_run.INTERRUPTED:
        # Python would wait for threads that are in work; what they write is whole or not there.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run_command(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line.

    Args:
        arguments: The words after `slideloom`, without `--debug`.
        debug: Let errors through with their traceback.

    Returns:
        The exit code.
    """
    try:
        code = app(arguments, standalone_mode=False, prog_name="slideloom", obj=debug)
    except _CommandLineFault as error:
        return _complain(f"{error.format_message()} See slideloom --help.", 2)
    except SlideloomError as error:
        if debug:
            raise
        return _complain(str(error), 1 if isinstance(error, _OF_THE_SLIDE) else 2)
    if code == cli_run.INTERRUPTED:
        further = "the same command again starts anew; nothing was left half-written"
        if arguments[0] == "run":
            further = cli_run.GOES_ON
        return _complain(f"stopped: {further}", code)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    print(f"slideloom: {' '.join(message.split())}", file=sys.stderr)
    return code


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(version("slideloom"))
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the slide and its result.")] = Path(
        "slideloom-demo"
    ),
) -> None:
    """Make a slide with a known truth, run the built-in model on it, and compare."""
    from slideloom.workflows.demo import run_demo

    run_demo(out)


@app.command()
def info(
    slide: Annotated[str, typer.Argument(help="A slide.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    mpp: MppOption = None,
    reader: ReaderOption = None,
) -> None:
    """Print what a slide states: size, levels, mpp, reader, channels, associated images."""
    from slideloom.workflows.info import describe_slide, print_slide

    description = describe_slide(slide, mpp=mpp, reader=reader)
    if as_json:
        typer.echo(description.model_dump_json(indent=2))
    else:
        print_slide(description)


@app.command()
def convert(
    slide: Annotated[str, typer.Argument(help="A slide.")],
    out: Annotated[Path, typer.Argument(help="What to write: .ome.zarr, .ome.tiff or .ome.tif.")],
    mpp: MppOption = None,
    reader: ReaderOption = None,
    on_bad_tile: OnBadTileOption = "error",
    ome_version: Annotated[
        str | None, typer.Option(help="Of .ome.zarr: 0.5 or 0.4.", show_default="0.5")
    ] = None,
    compression: Annotated[
        str | None,
        typer.Option(
            help="Of .ome.tiff: deflate, zstd, lzw, jpeg or jpeg2000.", show_default="deflate"
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            help="Of jpeg, 1 to 100; of jpeg2000, decibels of signal to noise.",
            show_default="jpeg 90, jpeg2000 lossless",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Tiles in work at one time.", show_default="one per core")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write a slide as a pyramidal OME-Zarr or OME-TIFF, with all its channels.

    Its label and macro images and its ICC profile are not copied.
    """
    from slideloom.workflows.convert import ConvertOptions, convert_file

    options = ConvertOptions(
        ome_version=ome_version,
        compression=compression,
        quality=quality,
        workers=workers,
        overwrite=overwrite,
    )
    opening = slide_options(
        mpp=mpp, reader=reader, channels=None, display_range=None, on_bad_tile=on_bad_tile
    )
    convert_file(slide, out, options=options, slide_options=opening)


@models_app.command("list")
def list_command() -> None:
    """List the built-in models."""
    from slideloom.models.catalog import list_models
    from slideloom.workflows.info import print_models

    print_models(list_models())


@models_app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="A built-in model, a folder, or hf://org/name.")],
) -> None:
    """Print a model's card."""
    from slideloom.models.catalog import model_folder, read_card

    typer.echo(read_card(model_folder(name)))
