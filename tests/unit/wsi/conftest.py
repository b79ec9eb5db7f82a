"""Small slides, made on the spot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
WriteTiff = Callable[..., Path]


@pytest.fixture(scope="session")
def picture() -> Picture:
    """`(200, 300, 3)`: smooth colours with an edge in them, sides no multiple of a tile."""
    y, x = np.mgrid[0:200, 0:300]
    channels = [x * 255 / 299, y * 255 / 199, 128 + 90 * np.sin(x / 9) * np.cos(y / 7)]
    pixels = np.stack(channels, axis=-1).astype(np.uint8)
    pixels[80:120, 100:180] = (200, 30, 120)
    return pixels


@pytest.fixture
def write_tiff(tmp_path: Path, picture: Picture) -> WriteTiff:
    """Write a tiled TIFF of `picture` with 64-pixel tiles and the given tifffile options."""

    def write(name: str = "slide.tif", **options: Any) -> Path:
        path = tmp_path / name
        settings: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64), "metadata": None}
        tifffile.imwrite(path, picture, **(settings | options))
        return path

    return write


@pytest.fixture
def write_pyramid(tmp_path: Path, picture: Picture) -> WriteTiff:
    """Write a pyramid with factors 2 and 4, coarse levels as pages or as SubIFDs."""

    def write(name: str = "pyramid.tif", *, subifds: bool = False, **options: Any) -> Path:
        path = tmp_path / name
        common: dict[str, Any] = {
            "photometric": "rgb",
            "tile": (64, 64),
            "metadata": None,
        } | options
        with tifffile.TiffWriter(path) as tif:
            tif.write(picture, subifds=2 if subifds else 0, **common)
            for step in (2, 4):
                small = picture[::step, ::step]
                tif.write(small, subfiletype=1, **common)
        return path

    return write
