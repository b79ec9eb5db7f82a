"""A small batch of slides, two of them corrupt, and models that see small tiles of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import tifffile

from slideloom.errors import SlideFormatError
from slideloom.models.catalog import model_folder, read_card
from slideloom.models.folder import load_model, save_model
from slideloom.testing import make_scene, render_scene, write_slide
from slideloom.workflows.config import RunConfig
from slideloom.workflows.plan import plan_run
from slideloom.wsi import Size, open_slide

MPP = 0.5
UNREADABLE, TORN = "unreadable", "torn"
"""Names of the corrupt slides: one cannot be opened, of the other a tile cannot be decoded."""


@dataclass(frozen=True, order=True)
class RegionPlace:
    """One region of a slide of the batch."""

    slide: str
    row: int
    col: int


def write_batch(folder: Path, sizes: Sequence[Size]) -> Path:
    """A folder with one sound slide of each size, and the corrupt ones in between."""
    write_sound(folder, sizes)
    # Slides are run in the order of their names: `torn` stands last, and this one second.
    (folder / f"sound-0-{UNREADABLE}.tif").write_bytes(b"II*\0" + bytes(range(200)))
    torn = folder / f"{TORN}.tif"
    _write(torn, sizes[0], seed=len(sizes))
    tear(torn)
    return folder


def write_sound(folder: Path, sizes: Sequence[Size]) -> Path:
    """A folder with one sound slide of each size."""
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        _write(folder / f"sound-{number}.tif", size, seed=number)
    return folder


def _write(path: Path, size: Size, *, seed: int) -> None:
    scene = make_scene(size=size, mpp=MPP, seed=seed)
    write_slide(path, render_scene(scene), mpp=MPP)


def tear(path: Path) -> None:
    """Damage the last stored tile of the finest level."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[-1], page.databytecounts[-1]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * count)


def write_model(folder: Path, task: Literal["instance", "semantic"]) -> Path:
    """The network for nuclei with small tiles; as a semantic model it tells them from the rest."""
    original = model_folder("nuclei")
    model = load_model(original, device="cpu")
    changes: dict[str, object] = {"name": task, "tile_px": 128, "halo_px": 16}
    if task == "semantic":
        changes |= {"task": task, "decode": None}
    spec = model.spec.model_copy(update=changes)
    save_model(folder, spec, module=model.load(), card=read_card(original))
    return folder


def tile_places(
    slides: Path, model: Path, *, config: RunConfig
) -> Mapping[str, frozenset[RegionPlace]]:
    """For the hash of each tile's pixels, the regions in which a model sees such a tile."""
    places: dict[str, set[RegionPlace]] = {}
    spec = load_model(model, device="cpu").spec
    for path in sorted(slides.iterdir()):
        try:
            with open_slide(path) as slide:
                plan = plan_run(slide, spec, config=config, labels=Path())
                for region in plan.regions:
                    pixels = slide.read_at_mpp(region.window, mpp=plan.grid.mpp)
                    place = RegionPlace(slide.name, region.index.row, region.index.col)
                    for tile in plan.tiles_of(region):
                        part = pixels[tile.window.slices_in(region.window)]
                        places.setdefault(sha256(part.tobytes()).hexdigest(), set()).add(place)
        except SlideFormatError:
            continue
    return {key: frozenset(found) for key, found in places.items()}
