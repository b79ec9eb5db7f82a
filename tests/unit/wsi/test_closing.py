"""A slide that is closed while another thread reads it, or whose process forks."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest

from slideloom.errors import RegionError
from slideloom.wsi import Box, open_slide
from slideloom.wsi.readers.opening import READERS
from slideloom.wsi.readers.tiff.reader import TiffReader
from slideloom.wsi.source import Source

WriteTiff = Callable[..., Path]
BOX = Box(x0=10, y0=10, x1=250, y1=150)


def test_a_read_goes_on_in_its_own_file_when_the_slide_is_closed_under_it(
    write_tiff: WriteTiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff()
    with open_slide(path, reader="tiff") as slide:
        expected = slide.read(BOX)
    slide = open_slide(path, reader="tiff")
    real, opened = os.pread, []

    def close_first(descriptor: int, count: int, offset: int) -> bytes:
        slide.close()
        opened.append(Path(os.devnull).open("rb"))  # noqa: SIM115  (takes a number set free)
        return real(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", close_first)
    try:
        with pytest.raises(RegionError, match="is closed"):
            slide.read(BOX)
        inside = Box(x0=70, y0=70, x1=100, y1=100)
        slide = open_slide(path, reader="tiff")
        assert np.array_equal(slide.read(inside), expected[60:90, 60:90])
    finally:
        for file in opened:
            file.close()


def test_openslide_is_not_closed_under_a_read(
    write_tiff: WriteTiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiff()
    slide = open_slide(path, reader="openslide")
    expected = slide.read(BOX)
    real = openslide.OpenSlide.read_region

    def close_first(handle: openslide.OpenSlide, *arguments: Any) -> Any:
        slide.close()
        return real(handle, *arguments)

    monkeypatch.setattr(openslide.OpenSlide, "read_region", close_first)
    assert np.array_equal(slide.read(BOX), expected)
    with pytest.raises(RegionError, match="is closed"):
        slide.read(BOX)


def test_a_forked_process_opens_the_file_for_itself(
    write_tiff: WriteTiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = write_tiff(), []

    def open_and_count(source: Source) -> TiffReader:
        opened.append(TiffReader(source))
        return opened[-1]

    monkeypatch.setitem(READERS, "tiff", open_and_count)
    slide = open_slide(path)
    expected = slide.read(BOX)
    # Forking for real is not for a process that runs threads, as this one does.
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert np.array_equal(slide.read(BOX), expected)
    assert len(opened) == 2
    slide.close()
    assert np.array_equal(opened[0].read(BOX, 0), expected)
    with pytest.raises(RegionError, match="is closed"):
        opened[1].read(BOX, 0)
