"""Where a slide is: a path on this machine, or a URL that fsspec opens."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

Source = Path | str
"""A `Path`, or a URL as a plain string."""

_ENDINGS = (".ome.zarr.zip", ".zarr.zip", ".ome.zarr", ".ome.tiff", ".ome.tif", ".ome.tf8")
"""Endings of more than one part, the longest first."""


def parse_source(text: str | Path) -> Source:
    """A URL stays a string, `file://` and all else become a `Path`."""
    if isinstance(text, Path):
        return text
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return text.rstrip("/") if "://" in text else Path(text)


def file_name(source: Source) -> str:
    """The last part of the path or URL; what follows the path of a web address is left out."""
    if isinstance(source, Path):
        return source.name
    is_web = source.lower().startswith(("http://", "https://"))
    return (urlsplit(source).path if is_web else source).rstrip("/").rsplit("/", maxsplit=1)[-1]


def slide_name(source: Source) -> str:
    """The name without its ending: `CASE-1` of `CASE-1.ome.zarr`; a DICOM folder has none."""
    name = file_name(source)
    for ending in _ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    is_folder = isinstance(source, Path) and source.is_dir() and source.suffix.lower() != ".zarr"
    return name if is_folder else Path(name).stem
