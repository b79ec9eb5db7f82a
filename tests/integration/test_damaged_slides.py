"""Thousands of damaged files: each is read or refused in one sentence, and nothing else happens."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
ROOT = Path(__file__).parents[2]
CASES = int(os.environ.get("SLIDELOOM_FUZZ_CASES", "300"))


def picture() -> Picture:
    y, x = np.mgrid[0:330, 0:410]
    return np.stack([x % 256, y % 256, (x * y) % 256], axis=-1).astype(np.uint8)


def tiff(folder: Path, **options: object) -> Path:
    path = folder / "slide.tif"
    with tifffile.TiffWriter(path, bigtiff=bool(options.pop("bigtiff", False))) as tif:
        for number in range(3):
            small = picture()[:: 2**number, :: 2**number]
            settings = {"tile": (64, 64), "photometric": "rgb", "metadata": None} | options
            tif.write(small, subfiletype=min(number, 1), **settings)  # type: ignore[arg-type]
    return path


def aperio(folder: Path) -> Path:
    return tiff(
        folder, compression=33005, description="Aperio Image Library v1\r\n|MPP = 0.5|AppMag = 20"
    )


def fluorescence(folder: Path) -> Path:
    path = folder / "slide.ome.tif"
    stack = np.stack([picture()[..., i].astype(np.uint16) * 99 for i in (0, 1, 2, 0)])
    tifffile.imwrite(path, stack, tile=(64, 64), compression="zlib", metadata={"axes": "CYX"})
    return path


def image(folder: Path, ending: str) -> Path:
    path = folder / f"slide.{ending}"
    Image.fromarray(picture()).save(path)
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "tiff-jpeg": lambda folder: tiff(folder, compression="jpeg"),
    "tiff-deflate": lambda folder: tiff(folder, compression="zlib", predictor=2),
    "tiff-lzw": lambda folder: tiff(folder, compression="lzw"),
    "tiff-zstd-big": lambda folder: tiff(folder, compression="zstd", bigtiff=True),
    "tiff-plain": tiff,
    "tiff-strips": lambda folder: tiff(folder, tile=None, rowsperstrip=20),
    "aperio-jpeg2000": aperio,
    "ome-tiff-16-bit": fluorescence,
    "png": lambda folder: image(folder, "png"),
    "jpeg": lambda folder: image(folder, "jpg"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_damage_ends_in_pixels_or_in_one_sentence(tmp_path: Path, kind: str) -> None:
    sound = tmp_path / "sound"
    sound.mkdir()
    slide = MAKERS[kind](sound)
    words = ["-m", "tests.makers.fuzzing", str(slide), str(tmp_path / "copy"), str(CASES)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    case = tmp_path / "case.txt"
    assert done.returncode == 0, f"{case.read_text()}\n{done.stderr[-4000:]}"
    assert case.exists()
