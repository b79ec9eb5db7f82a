"""Which files of a data folder are images, and which annotations belong to which image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slideloom.errors import SettingsError
from slideloom.workflows.slides import SUFFIXES
from slideloom.workflows.training.config import DataConfig
from slideloom.wsi.readers.dicom_folder import dicom_slides
from slideloom.wsi.readers.ome_zarr.layout import holds_image
from slideloom.wsi.source import slide_name

__all__ = ["VECTOR_ENDINGS", "FilePair", "FoundFiles", "find_files"]

FOLDERS = ("annotations", "masks", "labels", "instances", "points", "boxes")
"""Names of folders that hold annotations, in any case of letters."""
_ASIDE = frozenset({*FOLDERS, "types"})
"""Pictures below folders of these names are no images to train on."""
VECTOR_ENDINGS = (".geojson", ".geojson.gz", ".xml", ".json")
_ENDINGS = (*VECTOR_ENDINGS, ".csv", ".png", ".tif", ".tiff")
"""Of annotations; the first that is there is taken."""
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_MASK_RANK = {".tif": 1, ".tiff": 1, ".png": 2}
"""Of two files of one stem in one folder, one with a higher rank is the other's mask; JPEG and
vendor formats are never masks."""
_ZARR, _DICOM = ".zarr", ".dcm"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePair:
    """An image and its annotations, where it has some."""

    image: Path
    annotations: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFiles:
    """The images of a folder, sorted, and the files among annotations that belong to none."""

    pairs: tuple[FilePair, ...]
    strays: tuple[Path, ...] = ()


def find_files(root: Path, data: DataConfig) -> FoundFiles:
    """Find the images below a folder and their annotations.

    Hidden files are left out. Of a DICOM series the finest file stands for the slide.

    Raises:
        SettingsError: There is no such folder, or no image in it.
    """
    if not root.is_dir():
        msg = f"the data folder '{root}' is not a folder: check --data"
        raise SettingsError(msg)
    files = tuple(_walk(root))
    images = _chosen(root, data.images) if data.images else _images(files, root)
    if data.coco is not None:
        whole = root / data.coco
        if not whole.is_file():
            msg = f"data.coco names '{data.coco}', which is not in '{root}': check the config"
            raise SettingsError(msg)
        return FoundFiles(pairs=_paired(images, dict.fromkeys(images, whole), root=root, data=data))
    partners = _Partners(root, files, templates=data.annotations)
    of_image = {image: partners.of(image) for image in images}
    used = {path for path in of_image.values() if path is not None}
    kept = [image for image in images if image not in used]
    pairs = _paired(kept, of_image, root=root, data=data)
    return FoundFiles(pairs=pairs, strays=_strays(files, used, images=kept))


def _paired(
    images: Sequence[Path], of_image: Mapping[Path, Path | None], *, root: Path, data: DataConfig
) -> tuple[FilePair, ...]:
    if not images:
        asked = ", ".join(data.images) or "slides and pictures (PNG, JPEG, TIFF)"
        msg = f"no images in '{root}' ({asked}): check --data, or data.images of the config"
        raise SettingsError(msg)
    return tuple(FilePair(image=image, annotations=of_image[image]) for image in images)


def _walk(root: Path) -> Iterator[Path]:
    """All files, folder by folder; an OME-Zarr is one file."""
    for parent, folders, names in os.walk(root, followlinks=True):
        shown = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in shown if not name.lower().endswith(_ZARR)]
        stores = [name for name in shown if name.lower().endswith(_ZARR)]
        yield from (Path(parent, name) for name in stores)
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _chosen(root: Path, patterns: Sequence[str]) -> list[Path]:
    try:
        found = {path for pattern in patterns for path in root.glob(pattern)}
    except (ValueError, NotImplementedError) as error:
        msg = (
            f"data.images {list(patterns)} cannot be globs in the data folder ({error}): write "
            "them relative to it"
        )
        raise SettingsError(msg) from error
    return sorted(path for path in found if path.is_file() or path.suffix.lower() == _ZARR)


def _images(files: Iterable[Path], root: Path) -> list[Path]:
    """Every slide and picture that does not lie among annotations."""
    found, dicom = [], []
    for path in files:
        ending = path.suffix.lower()
        folders = path.parent.relative_to(root).parts
        if any(part.lower() in _ASIDE for part in folders):
            continue
        if ending == _DICOM:
            dicom.append(path)
        elif ending in SUFFIXES | _PICTURES or (ending == _ZARR and holds_image(path)):
            found.append(path)
    found += [series.finest for series in dicom_slides(dicom)]
    return sorted(found)


class _Partners:
    """Finds the annotation file of an image."""

    def __init__(self, root: Path, files: Sequence[Path], *, templates: Sequence[str]) -> None:
        self._root = root
        self._templates = templates
        self._files: dict[tuple[str, ...], dict[str, Path]] = {}
        if not templates:
            for path in files:
                if ending := _ending(path.name):
                    stem = path.name[: -len(ending)]
                    key = _key((*path.parent.relative_to(root).parts, stem))
                    self._files.setdefault(key, {})[ending] = path

    def of(self, image: Path) -> Path | None:
        """The annotation file, or None where there is none."""
        folder = image.parent.relative_to(self._root)
        stem = slide_name(image)
        if self._templates:
            places = _places(folder, image.name, stem=stem)
            named = [self._root / template.format_map(places) for template in self._templates]
            return next((path for path in named if path.is_file() and path != image), None)
        for parts in _candidates(folder.parts):
            found = self._files.get(_key((*parts, stem)), {})
            beside = parts == folder.parts
            for ending in _ENDINGS:
                if ending in found and (not beside or _may_annotate(found[ending], image)):
                    return found[ending]
        return None


def _places(folder: Path, name: str, *, stem: str) -> Mapping[str, str]:
    return {
        "stem": stem,
        "name": name,
        "folder": folder.as_posix(),
        "folder_name": folder.name,
        "parent": folder.parent.as_posix(),
    }


def _candidates(folders: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Folders that may hold the annotations of an image in `folders`, nearest first."""
    yield folders
    for name in FOLDERS:
        yield (*folders, name)
    for place in reversed(range(len(folders))):
        for name in FOLDERS:
            yield (*folders[:place], name, *folders[place + 1 :])


def _key(parts: Iterable[str]) -> tuple[str, ...]:
    *folders, stem = parts
    return (*(part.lower() for part in folders), stem)


def _ending(name: str) -> str | None:
    """The ending of an annotation file, in lower case; None for other files."""
    lower = name.lower()
    return next((ending for ending in _ENDINGS if lower.endswith(ending)), None)


def _may_annotate(path: Path, image: Path) -> bool:
    """Whether a file beside an image, with its stem, can be the image's annotation."""
    if path == image:
        return False
    rank = _MASK_RANK.get(path.suffix.lower())
    return rank is None or rank > _MASK_RANK.get(image.suffix.lower(), 0)


def _strays(files: Iterable[Path], used: set[Path], *, images: Sequence[Path]) -> tuple[Path, ...]:
    """Files that lie beside annotations that were used, end alike, and belong to no image."""
    places = {(path.parent, path.suffix.lower()) for path in used}
    taken = used | set(images)
    return tuple(
        path for path in files if (path.parent, path.suffix.lower()) in places and path not in taken
    )
