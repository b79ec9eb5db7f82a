"""The command that runs a model over slides: `slideloom run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from slideloom.errors import SettingsError
from slideloom.workflows.options import (
    ChannelsOption,
    DisplayRangeOption,
    MppOption,
    OnBadTileOption,
    ReaderOption,
    slide_options,
)

# The imports inside the command keep `slideloom --help` quick.

INTERRUPTED = 130
"""The exit code after Ctrl-C."""
GOES_ON = "the same command again goes on from here"

run_app = typer.Typer()


@run_app.command("run")
def run_command(
    context: typer.Context,
    slides: Annotated[list[str], typer.Argument(help="Slides, folders, globs, URLs, CSV lists.")],
    model: Annotated[str, typer.Option(help="A built-in model, a folder, or hf://org/name.")],
    out: Annotated[str, typer.Option(help="Folder for the results, or s3://BUCKET/FOLDER.")],
    mpp: MppOption = None,
    reader: ReaderOption = None,
    channels: ChannelsOption = None,
    display_range: DisplayRangeOption = None,
    on_bad_tile: OnBadTileOption = "error",
    roi: Annotated[Path | None, typer.Option(help="GeoJSON with regions of interest.")] = None,
    roi_name: Annotated[
        list[str] | None,
        typer.Option(help="Take the region of that name or class only; may be given repeatedly."),
    ] = None,
    tissue: Annotated[bool, typer.Option(help="Leave out tiles without tissue.")] = True,
    device: Annotated[
        str,
        typer.Option(help="auto, cpu or cuda:N; several with commas between run a process each."),
    ] = "auto",
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask scheduler to run on: tcp://HOST:PORT, or its scheduler file."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Regions in work at one time.", show_default="one per core, 2 to 8"),
    ] = None,
    window: Annotated[
        str, typer.Option(help="How tiles of masks are blended: constant, hann, gaussian, centre.")
    ] = "hann",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Keep the probabilities of masks too.")
    ] = False,
    stains: Annotated[
        bool, typer.Option("--stains", help="Measure stain densities of each object.")
    ] = False,
    stain_vectors: Annotated[
        str, typer.Option(help="standard, estimated from the slide, or a JSON file.")
    ] = "standard",
    ring: Annotated[
        float | None, typer.Option(help="Measure stains in a ring of so many um too.")
    ] = None,
    neighbours: Annotated[
        float | None,
        typer.Option(help="Measure distances to neighbours, and count those within so many um."),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(help="Most memory of the process, such as 4GB.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and write nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute anew what an earlier run left.")
    ] = False,
    formats: Annotated[
        str, typer.Option("--format", help="Exports beside the tables, with commas between.")
    ] = "geojson",
    split_mb: Annotated[
        float | None, typer.Option(help="Most megabytes of one GeoJSON file.")
    ] = None,
) -> int:
    """Run a model over slides. The same command again goes on where a run stopped."""
    from slideloom.models.catalog import model_folder, read_spec
    from slideloom.models.folder import load_model
    from slideloom.workflows.batch.entries import find_entries
    from slideloom.workflows.batch.live import LiveTable
    from slideloom.workflows.batch.outcomes import print_outcomes
    from slideloom.workflows.batch.run import run_batch
    from slideloom.workflows.batch.stopping import stop_on_signals
    from slideloom.workflows.control import RunControl, StopFlag
    from slideloom.workflows.dry_run import plan_batch, print_plan
    from slideloom.workflows.memory_plan import parse_memory
    from slideloom.workflows.places import parse_folder

    config = _config(
        roi=roi,
        roi_names=tuple(roi_name) if roi_name else None,
        tissue=tissue,
        device=device,
        scheduler=scheduler,
        workers=workers,
        max_memory=None if max_memory is None else parse_memory(max_memory),
        window=window,
        probabilities=probabilities,
        stains=stains,
        stain_vectors=stain_vectors,
        ring_um=ring,
        neighbours_um=neighbours,
        split_mb=split_mb,
        overwrite=overwrite,
        formats=tuple(name.strip() for name in formats.split(",") if name.strip()),
    )
    options = slide_options(
        mpp=mpp,
        reader=reader,
        channels=channels,
        display_range=display_range,
        on_bad_tile=on_bad_tile,
    )
    entries, folder = find_entries(slides), parse_folder(out)
    if dry_run:
        spec = read_spec(model_folder(model))
        return print_plan(plan_batch(entries, spec, out=folder, config=config, options=options))
    chosen, stop = load_model(model, device=config.model_device), StopFlag()
    with LiveTable(stop=stop) as table, stop_on_signals(stop, tell=not table.live):
        outcomes = run_batch(
            entries,
            chosen,
            out=folder,
            config=config,
            options=options,
            control=RunControl(listen=table.hear, stop=stop),
        )
    code = print_outcomes(outcomes, folder, traces=context.obj)
    if stop.reason:
        typer.echo(f"slideloom: stopped, since {stop.reason}: {GOES_ON}", err=True)
    return INTERRUPTED if stop.requested and not stop.reason else code


def _config(**chosen: Any) -> Any:  # noqa: ANN401  (fields of RunConfig)
    """A `RunConfig` from what the user gave; the rest takes its defaults."""
    from slideloom.workflows.config import RunConfig

    try:
        return RunConfig(**{name: value for name, value in chosen.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = (
            str(first["loc"][0]).removesuffix("_um").replace("_", "-")
            if first["loc"]
            else "settings"
        )
        msg = f"--{name} cannot be {first['input']!r}: {first['msg']}"
        raise SettingsError(msg) from error
