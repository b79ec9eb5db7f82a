"""Thousands of damaged files: each is read or refused in one sentence, and nothing else happens."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.makers.dicom import write_dicom_slide
from tests.makers.leica import write_leica
from tests.makers.mirax import write_mirax
from tests.makers.ngff import Ngff, write_ngff, zip_store
from tests.makers.philips import write_philips
from tests.makers.pictures import Picture, smooth_picture
from tests.makers.ventana import write_ventana
from tests.makers.zeiss import write_czi

ROOT = Path(__file__).parents[2]
CASES = int(os.environ.get("SLIDELOOM_FUZZ_CASES", "300"))


def picture() -> Picture:
    return smooth_picture(410, 330)


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


def store(folder: Path, version: str) -> Path:
    levels = [np.ascontiguousarray(np.moveaxis(picture()[::k, ::k], 2, 0)) for k in (1, 2)]
    return write_ngff(folder / "slide.ome.zarr", levels, ngff=Ngff(version=version))


def dicom(folder: Path) -> Path:
    write_dicom_slide(folder / "S1", picture())
    return folder / "S1"


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
    "zarr-0.4": lambda folder: store(folder, "0.4"),
    "zarr-0.5": lambda folder: store(folder, "0.5"),
    "zarr-zip": lambda folder: zip_store(store(folder.parent, "0.5"), folder / "slide.zarr.zip"),
    "dicom": dicom,
    "mirax": lambda folder: write_mirax(folder / "slide.mrxs", picture()),
    "philips": lambda folder: write_philips(folder / "slide.tiff", picture()),
    "ventana": lambda folder: write_ventana(folder / "slide.bif", smooth_picture(608, 488)),
    "leica": lambda folder: write_leica(folder / "slide.scn", picture()),
    "zeiss": lambda folder: write_czi(folder / "slide.czi", picture(), codec="zstd1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_damage_ends_in_pixels_or_in_one_sentence(tmp_path: Path, kind: str) -> None:
    sound = tmp_path / "sound"
    sound.mkdir()
    slide = MAKERS[kind](sound)
    # zarr takes several times longer to open than the others.
    cases = CASES // 3 if kind.startswith("zarr") else CASES
    words = ["-m", "tests.makers.fuzzing", str(slide), str(tmp_path / "copy"), str(cases)]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    case = tmp_path / "case.txt"
    assert done.returncode == 0, f"{case.read_text()}\n{done.stderr[-4000:]}"
    read, refused = map(int, done.stdout.split())
    assert read > 0
    assert refused > 0
    assert read + refused >= cases
