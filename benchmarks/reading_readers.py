"""The readers that `benchmarks.reading` compares, each behind the same call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

import slideloom
from benchmarks.reading_codec import FileTiles
from slideloom.wsi.geometry import Box

ReadBox = Callable[[Box], NDArray[np.uint8] | None]
"""Pixels `(y, x, 3)` of a box of level 0; None from the bare codec, which drops its tiles."""

OpenReader = Callable[[Path], AbstractContextManager[ReadBox]]


@contextmanager
def open_codec(path: Path) -> Iterator[ReadBox]:
    """The codec alone: each tile under the box is decoded and dropped."""
    with closing(FileTiles(path)) as tiles:

        def read(box: Box) -> None:
            for index in tiles.under(box):
                tiles.decode(index)

        yield read


@contextmanager
def open_openslide(path: Path) -> Iterator[ReadBox]:
    """OpenSlide, as its users call it."""
    with openslide.OpenSlide(path) as slide:

        def read(box: Box) -> NDArray[np.uint8]:
            image = slide.read_region((box.x0, box.y0), 0, (box.width, box.height))
            return np.asarray(image.convert("RGB"))

        yield read


@contextmanager
def open_slideloom(path: Path) -> Iterator[ReadBox]:
    """Ours, by its public call."""
    with slideloom.open_slide(path) as slide:
        yield lambda box: slide.read(box, level=0)


@contextmanager
def open_tiffslide(path: Path) -> Iterator[ReadBox]:
    """tiffslide: tifffile and zarr behind OpenSlide's interface."""
    with import_module("tiffslide").TiffSlide(path) as slide:

        def read(box: Box) -> NDArray[np.uint8]:
            corner, size = (box.x0, box.y0), (box.width, box.height)
            return np.asarray(slide.read_region(corner, 0, size, as_array=True))

        yield read


@contextmanager
def open_fastslide(path: Path) -> Iterator[ReadBox]:
    """fastslide, without its cache."""
    with import_module("fastslide").FastSlide.from_file_path(path) as slide:

        def read(box: Box) -> NDArray[np.uint8]:
            image = slide.read_region((box.x0, box.y0), 0, (box.width, box.height))
            return np.asarray(image.numpy())

        yield read


@contextmanager
def open_cucim(path: Path) -> Iterator[ReadBox]:
    """NVIDIA cuCIM, on the CPU."""
    slide = import_module("cucim").CuImage(str(path))

    def read(box: Box) -> NDArray[np.uint8]:
        return np.asarray(slide.read_region((box.x0, box.y0), (box.width, box.height), 0))

    try:
        yield read
    finally:
        slide.close()


CODEC, OPENSLIDE, OURS = "codec", "openslide", "slideloom"

_OPENERS: dict[str, OpenReader] = {
    CODEC: open_codec,
    OPENSLIDE: open_openslide,
    OURS: open_slideloom,
    "tiffslide": open_tiffslide,
    "fastslide": open_fastslide,
    "cucim": open_cucim,
}


def installed_readers() -> dict[str, OpenReader]:
    """All readers that this machine has, by name; the bare codec comes first."""
    return {
        name: opener
        for name, opener in _OPENERS.items()
        if name == CODEC or find_spec(name) is not None
    }
