"""The command that writes finished results in other formats: `slideloom export`."""

from __future__ import annotations

from typing import Annotated

import typer

# The imports inside the command keep `slideloom --help` quick.

export_app = typer.Typer()


@export_app.command("export")
def export_command(
    context: typer.Context,
    results: Annotated[
        list[str],
        typer.Argument(help="Folders of finished slides, or --out folders of runs; also URLs."),
    ],
    formats: Annotated[
        str, typer.Option("--format", help="With commas between.", show_default=False)
    ],
    out: Annotated[
        str | None,
        typer.Option(help="Gets a folder for each slide.", show_default="beside the result"),
    ] = None,
    split_mb: Annotated[
        float | None, typer.Option(help="Most megabytes of one GeoJSON file.")
    ] = None,
    object_type: Annotated[
        str,
        typer.Option(help="Of GeoJSON in QuPath: auto, detection, annotation, cell or tile."),
    ] = "auto",
) -> int:
    """Write finished results in other formats, without running the model again."""
    from slideloom.workflows.export.batch import ExportSettings, export_all
    from slideloom.workflows.places import parse_folder

    settings = ExportSettings(
        formats=tuple(name.strip() for name in formats.split(",") if name.strip()),
        split_mb=split_mb,
        object_type=object_type,
    )
    return export_all(
        [parse_folder(result) for result in results],
        out=None if out is None else parse_folder(out),
        settings=settings,
        debug=bool(context.obj),
    )
