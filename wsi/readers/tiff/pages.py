"""Which pages of a TIFF are the levels of its pyramid, and which are its channels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import tifffile

from slideloom.wsi.geometry import Size
from slideloom.wsi.readers.reader import NowhereServedError
from slideloom.wsi.readers.tiff.ome import read_ome, refuse_stack

_SIDE_TOLERANCE = 0.02
"""By how much a level's two ratios to level 0 may differ: small levels are rounded to a pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffPyramid:
    """The pages that make up the slide.

    Attributes:
        levels: Finest first; of each level one page, or one for each channel.
        names: Of the channels; empty, or of another number, where the file does not state them.
        behind: Planes whose pixels lie behind those of the only page, without pages of their own.
    """

    levels: tuple[tuple[tifffile.TiffPage, ...], ...]
    names: tuple[str, ...] = ()
    behind: int = 0


def page_size(page: tifffile.TiffPage) -> Size:
    """In pixels."""
    return Size(width=page.imagewidth, height=page.imagelength)


def find_pyramid(tif: tifffile.TiffFile, *, vendor: str | None) -> TiffPyramid:
    """The pyramid that a file holds; of several images, the first.

    Args:
        tif: The file.
        vendor: OpenSlide's word for the format.

    Raises:
        NowhereServedError: It has planes that are no channels.
        ValueError: What it says of its planes makes no sense.
    """
    ome = read_ome(tif)
    if ome is not None:
        pages = _pages(tif)
        return _of_planes([pages[i] for i in ome.planes], pages[1:], names=ome.names)
    if tif.is_imagej:
        return _of_imagej(tif)
    if tif.is_stk or tif.is_lsm:
        msg = "it is a microscope's stack (STK or LSM), which is not served: save it as OME-TIFF"
        raise NowhereServedError(msg)
    planes = _same_pages(tif)
    if tif.is_qpi and len(planes) > 1:
        return _of_qptiff(tif, planes)
    if len(planes) > 1 and planes[0].samplesperpixel == 1:
        if _shaped_axes(planes[0]) != "CYX":
            msg = (
                f"it is a TIFF of {len(planes)} grey pages of one size, and does not say that "
                "they are channels: save it as OME-TIFF"
            )
            raise NowhereServedError(msg)
        return TiffPyramid(levels=(tuple(planes),))
    first = planes[0]
    rest = _pages(tif)[1:]
    return TiffPyramid(levels=_levels(first, rest, may_be_unmarked=vendor == "aperio"))


def _pages(tif: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    return _full(tif.pages)


def _full(
    pages: Iterable[tifffile.TiffPage | tifffile.TiffFrame],
) -> list[tifffile.TiffPage]:
    return [page for page in pages if isinstance(page, tifffile.TiffPage)]


def _of_planes(
    planes: list[tifffile.TiffPage], rest: list[tifffile.TiffPage], *, names: tuple[str, ...]
) -> TiffPyramid:
    pyramids = [_levels(page, rest if len(planes) == 1 else []) for page in planes]
    levels = tuple(tuple(page for (page,) in others) for others in zip(*pyramids, strict=False))
    return TiffPyramid(levels=levels, names=names)


def _of_imagej(tif: tifffile.TiffFile) -> TiffPyramid:
    """A hyperstack; a large one has a page for its first plane only, and the rest behind it."""
    stated = tif.imagej_metadata or {}
    refuse_stack(int(stated.get("slices", 1)), "focal planes")
    refuse_stack(int(stated.get("frames", 1)), "time points")
    first, channels = tif.pages.first, int(stated.get("channels", 1))
    if channels <= 1 or first.samplesperpixel > 1:
        return TiffPyramid(levels=((first,),))
    if len(tif.pages) == 1:
        return TiffPyramid(levels=((first,),), behind=channels - 1)
    return TiffPyramid(levels=(tuple(_pages(tif)[i] for i in range(channels)),))


def _of_qptiff(tif: tifffile.TiffFile, planes: list[tifffile.TiffPage]) -> TiffPyramid:
    """Akoya's fluorescence slides: the channels of level 0, a thumbnail, those of level 1..."""
    levels = [tuple(planes)]
    by_size: dict[Size, list[tifffile.TiffPage]] = {}
    for page in _pages(tif)[len(planes) :]:
        if _is_level_of(planes[0], page):
            by_size.setdefault(page_size(page), []).append(page)
    levels += [tuple(pages) for pages in by_size.values() if len(pages) == len(planes)]
    found = [re.search(r"<Name>([^<]*)</Name>", page.description) for page in planes]
    names = tuple("" if name is None else name.group(1) for name in found)
    return TiffPyramid(levels=tuple(levels), names=names)


def _same_pages(tif: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The first page, and those right behind it that could be further planes."""
    first = tif.pages.first
    planes = [first]
    for page in _pages(tif)[1:]:
        same = page_size(page) == page_size(first) and not page.is_reduced
        if not same or page.samplesperpixel != first.samplesperpixel or page.dtype != first.dtype:
            break
        planes.append(page)
    return planes


def _shaped_axes(page: tifffile.TiffPage) -> str | None:
    """The axes that tifffile's own files state in their description."""
    if not page.is_shaped:
        return None
    try:
        stated = json.loads(page.description)
    except json.JSONDecodeError:
        return None
    return stated.get("axes") if isinstance(stated, dict) else None


def _levels(
    first: tifffile.TiffPage,
    rest: list[tifffile.TiffPage],
    *,
    may_be_unmarked: bool = False,
) -> tuple[tuple[tifffile.TiffPage], ...]:
    """One image's levels: as OpenSlide picks them, and SubIFDs of the first page."""
    found = [
        page
        for page in [*_full(first.pages or ()), *rest]
        if (may_be_unmarked or page.is_reduced) and _is_level_of(first, page)
    ]
    return tuple((page,) for page in [first, *sorted(found, key=lambda page: -page.imagewidth)])


def _is_level_of(first: tifffile.TiffPage, page: tifffile.TiffPage) -> bool:
    same = (page.dtype, page.samplesperpixel, page.is_tiled)
    if same != (first.dtype, first.samplesperpixel, first.is_tiled):
        return False
    return _is_smaller_copy(page_size(first), page_size(page))


def _is_smaller_copy(base: Size, size: Size) -> bool:
    if not (0 < size.width < base.width and 0 < size.height < base.height):
        return False
    ratio_x, ratio_y = base.width / size.width, base.height / size.height
    rounding = 1 / size.width + 1 / size.height
    return abs(ratio_x / ratio_y - 1) <= _SIDE_TOLERANCE + rounding
