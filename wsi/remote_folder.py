"""Folders of object stores: what lies in them, level by level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from slideloom.wsi.remote import network_errors, open_filesystem, refusal, scheme_of
from slideloom.wsi.source import file_name

_ANY_DEPTH = "**"
_ZARR = ".zarr"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RemoteEntry:
    """A file or a folder behind a URL."""

    url: str
    is_folder: bool

    @property
    def name(self) -> str:
        """Its last part."""
        return file_name(self.url)

    @property
    def is_zarr(self) -> bool:
        """Whether it is a folder of chunks, by its name; nobody lists those."""
        return self.is_folder and self.name.lower().endswith(_ZARR)


def can_list(url: str) -> bool:
    """Whether a server says what lies in its folders: web servers do not."""
    return scheme_of(url) not in ("http", "https")


def has_pattern(url: str) -> bool:
    """Whether a URL of an object store is a glob."""
    return any(mark in url for mark in "*?[")


def entry_at(url: str) -> RemoteEntry | None:
    """What is at a URL; None for nothing.

    Raises:
        SlideAccessError: The server cannot be reached, or does not tell.
        SettingsError: URLs of this kind are not served.
    """
    place = open_filesystem(url)
    try:
        kind = place.system.info(place.path)["type"]
    except FileNotFoundError:
        return None
    except network_errors(url) as error:
        raise refusal(url, error) from error
    return RemoteEntry(url=url, is_folder=kind != "file")


def list_folder(url: str) -> list[RemoteEntry]:
    """What lies right in a folder, sorted; nothing where there is no such folder.

    Raises:
        SlideAccessError: The server cannot be reached, or does not tell.
        SettingsError: URLs of this kind are not served.
    """
    place = open_filesystem(url)
    try:
        found = place.system.ls(place.path, detail=True)
    except FileNotFoundError:
        return []
    except network_errors(url) as error:
        raise refusal(url, error) from error
    scheme = scheme_of(url)
    return sorted(
        RemoteEntry(url=f"{scheme}://{item['name'].rstrip('/')}", is_folder=item["type"] != "file")
        for item in found
        # Some tools put an empty object at the place of a folder.
        if item["name"].strip("/") != place.path.strip("/") and not item["name"].endswith("//")
    )


def matching(pattern: str) -> list[RemoteEntry]:
    """What a glob names, sorted, as `Path.glob` would; folders of chunks are not looked into.

    Raises:
        SlideAccessError: The server cannot be reached, or does not tell.
        SettingsError: URLs of this kind are not served.
    """
    scheme, path = pattern.split("://", maxsplit=1)
    parts = path.split("/")
    fixed = next(number for number, part in enumerate(parts) if has_pattern(part))
    start = RemoteEntry(url=f"{scheme}://{'/'.join(parts[:fixed])}", is_folder=True)
    entries: list[RemoteEntry] = [start]
    for part in parts[fixed:]:
        if part == _ANY_DEPTH:
            entries = [below for entry in entries for below in _folders_below(entry)]
        else:
            entries = [item for item in _inside(entries) if fnmatchcase(item.name, part)]
    return sorted(set(entries) - {start})


def _inside(entries: Iterable[RemoteEntry]) -> Iterator[RemoteEntry]:
    for entry in entries:
        if entry.is_folder and not entry.is_zarr:
            yield from list_folder(entry.url)


def _folders_below(entry: RemoteEntry) -> Iterator[RemoteEntry]:
    """The folder itself, and all folders in it at any depth."""
    if entry.is_folder and not entry.is_zarr:
        yield entry
        for inner in list_folder(entry.url):
            yield from _folders_below(inner)
