"""What a CSV, lists or folders say of images: their split, case and classes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from slideloom.errors import SettingsError
from slideloom.workflows.training.config import DataConfig, Split

__all__ = ["Listed", "Listing", "read_listing"]

_SPLITS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Words for the splits, in lower case."""
DEFAULT_CSV = "split.csv"
_COLUMNS = ("split", "case", "class")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What is said of one image.

    Attributes:
        split: None where it is not said.
        case: None where it is not said.
        labels: Classes of the whole image.
    """

    split: Split | None = None
    case: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Rows by the path that they give, with and without its ending.

    Attributes:
        rows: By name, with `/` between folders.
        closed: Whether images that are not listed are left out: a split file that does not name
            an image cannot say that it is safe to train on it.
        has_classes: Whether the rows give classes.
    """

    rows: Mapping[str, Listed] = field(default_factory=dict)
    closed: bool = False
    has_classes: bool = False

    def find(self, image: PurePosixPath) -> tuple[str, Listed] | None:
        """The row of an image, by the longest end of its path that is listed.

        Args:
            image: Relative to the data folder.
        """
        for whole in (image, image.with_suffix("")):
            for start in range(len(whole.parts)):
                name = "/".join(whole.parts[start:])
                if name in self.rows:
                    return name, self.rows[name]
        return None


def read_listing(root: Path, data: DataConfig, *, images: Iterable[Path]) -> Listing:
    """Read what `data.split` names; without it `split.csv`, or else the folders' names.

    Raises:
        SettingsError: It names no file, or the file cannot be read so.
    """
    split = data.split
    if split is None:
        if (root / DEFAULT_CSV).is_file():
            return _from_csv(root / DEFAULT_CSV)
        return _from_folders(root, images)
    if not isinstance(split, str):
        return _from_globs(root, [(name, glob) for name, globs in split.items() for glob in globs])
    if "{split}" not in split:
        return _from_csv(root / split)
    if PurePosixPath(split).suffix.lower() == ".txt":
        return _from_lists(root, split)
    return _from_globs(
        root, [(kind, split.replace("{split}", word)) for word, kind in _SPLITS.items()]
    )


def _from_csv(path: Path) -> Listing:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"split file '{path}' cannot be read ({error}): correct data.split"
        raise SettingsError(msg) from error
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
    if "file" not in columns or not columns.keys() & set(_COLUMNS):
        msg = (
            f"split file '{path}' has the columns {', '.join(columns) or 'none'}: it needs 'file' "
            "and some of 'split', 'case' and 'class'"
        )
        raise SettingsError(msg)
    rows = {}
    for number, raw in enumerate(reader, start=2):
        row = {name: (raw[own] or "").strip() for name, own in columns.items()}
        if row["file"]:
            name = row["file"].replace("\\", "/").removeprefix("./")
            rows[name] = Listed(
                split=_split_of(row.get("split", ""), f"'{path}', line {number}"),
                case=row.get("case") or None,
                labels=tuple(
                    filter(None, (part.strip() for part in row.get("class", "").split("|")))
                ),
            )
    return Listing(rows=rows, closed="split" in columns, has_classes="class" in columns)


def _split_of(word: str, where: str) -> Split | None:
    if not word:
        return None
    split = _SPLITS.get(word.lower())
    if split is None:
        msg = f"{where} has the split {word!r}: write train, val or test"
        raise SettingsError(msg)
    return split


def _from_lists(root: Path, template: str) -> Listing:
    rows: dict[str, Listed] = {}
    for word, split in _SPLITS.items():
        path = root / template.replace("{split}", word)
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                if parts := line.split():
                    _add(rows, parts[0], split=split, where=str(path))
    return _required(rows, root, template=template)


def _from_globs(root: Path, globs: Sequence[tuple[Split, str]]) -> Listing:
    rows: dict[str, Listed] = {}
    for split, glob in globs:
        try:
            paths = sorted(root.glob(glob))
        except (ValueError, NotImplementedError) as error:
            msg = (
                f"data.split has the glob '{glob}' ({error}): write it relative to the data folder"
            )
            raise SettingsError(msg) from error
        for path in paths:
            _add(rows, path.relative_to(root).as_posix(), split=split, where=glob)
    return _required(rows, root, template=", ".join(glob for _, glob in globs))


def _add(rows: dict[str, Listed], name: str, *, split: Split, where: str) -> None:
    if rows.setdefault(name, Listed(split=split)).split != split:
        msg = f"image {name!r} is in split {split!r} by '{where}', and in {rows[name].split!r} too"
        raise SettingsError(f"{msg}: leave it in one")


def _required(rows: Mapping[str, Listed], root: Path, *, template: str) -> Listing:
    if not rows:
        msg = (
            f"data.split '{template}' names nothing in '{root}' (train, val or test stand for "
            "{split}): correct it"
        )
        raise SettingsError(msg)
    return Listing(rows=rows, closed=True)


def _from_folders(root: Path, images: Iterable[Path]) -> Listing:
    """Images below folders called train, val or test; the others are in no split."""
    rows = {}
    for image in images:
        path = image.relative_to(root)
        words = [_SPLITS[part.lower()] for part in path.parts[:-1] if part.lower() in _SPLITS]
        if words:
            rows[path.as_posix()] = Listed(split=words[0])
    return Listing(rows=rows)
