"""What the OME-XML of a TIFF says of its first image (OME model, 2016-06)."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import tifffile

from slideloom.wsi.readers.reader import NowhereServedError


@dataclass(frozen=True, slots=True, kw_only=True)
class OmeImage:
    """The first image of a file.

    Attributes:
        planes: Number of the page that holds each plane, in the order of the channels; planes
            of several samples hold as many channels.
        names: Of the channels, in the same order; empty where a channel has none.
    """

    planes: tuple[int, ...]
    names: tuple[str, ...]


def ome_pixels(xml: str | None) -> ElementTree.Element | None:
    """The `Pixels` of the first image; None where there are none."""
    if xml is None:
        return None
    try:
        return ElementTree.fromstring(xml).find("{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None


def read_ome(tif: tifffile.TiffFile) -> OmeImage | None:
    """The first image, or None for a file without OME-XML.

    Raises:
        NowhereServedError: It has several focal planes or time points, or lies in several files.
        ValueError: The XML is no description of this file.
    """
    pixels = ome_pixels(tif.ome_metadata)
    if pixels is None:
        return None
    for axis, what in (("Z", "focal planes"), ("T", "time points")):
        refuse_stack(_number(pixels, f"Size{axis}", default=1), what)
    channels = pixels.findall("{*}Channel")
    names = tuple(channel.get("Name", "") for channel in channels)
    count = _number(pixels, "SizeC", default=1)
    samples = _number(channels[0], "SamplesPerPixel", default=1) if channels else 1
    if tif.pages.first.samplesperpixel == count:
        samples = count
    if not 0 < samples <= count or count // samples > len(tif.pages):
        msg = f"OME-XML of {count} channels, {samples} per page, over {len(tif.pages)} pages"
        raise ValueError(msg)
    return OmeImage(planes=_pages_of(pixels, count // samples), names=names)


def refuse_stack(count: int, what: str) -> None:
    """Refuse more than one plane of anything but channels."""
    if count > 1:
        msg = (
            f"one plane was asked for and the TIFF holds {count} {what}: save the plane to look "
            "at, or a projection, as a file of its own"
        )
        raise NowhereServedError(msg)


def _pages_of(pixels: ElementTree.Element, planes: int) -> tuple[int, ...]:
    pages = list(range(planes))
    files: set[str | None] = set()
    for data in pixels.findall("{*}TiffData"):
        first, page = _number(data, "FirstC", default=0), _number(data, "IFD", default=0)
        default = 1 if "IFD" in data.attrib else planes
        for i in range(min(_number(data, "PlaneCount", default=default), planes - first)):
            pages[first + i] = page + i
        files.update(item.text for item in data.findall("{*}UUID"))
    if len(files) > 1:
        msg = (
            f"it is an OME-TIFF whose planes lie in {len(files)} files, which is not served: "
            "save it as one file"
        )
        raise NowhereServedError(msg)
    return tuple(pages)


def _number(element: ElementTree.Element, name: str, *, default: int) -> int:
    value = int(element.get(name, default))
    if value < 0:
        msg = f"OME-XML with {name} {value}"
        raise ValueError(msg)
    return value
