"""Lay the checkout's folders out as the import package `slideloom`, by links.

mypy and import-linter find a package by its folder's name, and here no folder is called
`slideloom` (pyproject.toml maps `api/`, `wsi/` ... to it). In the folder that this script fills,
`slideloom/` has the shape that the wheel has, each file a link into the checkout.

    python .ci/link_package.py DEST
"""

import sys
import tomllib
from pathlib import Path


def link_package(root: Path, dest: Path) -> None:
    """Fill `dest` with `slideloom/`; a link that stands already is left as it is."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    folders: dict[str, str] = settings["tool"]["setuptools"]["package-dir"]
    mapped = {root / folder for folder in folders.values()}
    for package, folder in folders.items():
        inside = dest.joinpath(*package.split("."))
        inside.mkdir(parents=True, exist_ok=True)
        for entry in (root / folder).iterdir():
            link = inside / entry.name
            if entry not in mapped and entry.name != "__pycache__" and not link.is_symlink():
                link.symlink_to(entry)


if __name__ == "__main__":
    link_package(Path(__file__).resolve().parents[1], Path(sys.argv[1]))
