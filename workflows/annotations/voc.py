"""Pascal VOC's XML: one box per object.

M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010; development kit:
the top left pixel is (1, 1), and a box includes its last row and column.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from slideloom.workflows.annotations.content import Content
from slideloom.workflows.annotations.faults import BadObjectError, FaultLog
from slideloom.workflows.annotations.raw import RawObject, Request, collect, state_other_size
from slideloom.workflows.annotations.shapes import box, coordinates
from slideloom.wsi.geometry import Size


def matches(content: Content) -> bool:
    """Whether a file is Pascal VOC's."""
    return content.xml is not None and content.xml.tag == "annotation"


def read(content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
    """The boxes in the file's order, as rectangles from `xmin - 1` to `xmax`, y alike."""
    root = content.xml
    if root is None:
        return []
    stated = _stated_size(root)
    if stated is not None and stated != request.size:
        state_other_size(log, stated=stated, size=request.size)
    labelled = (
        (f"object {number}", item) for number, item in enumerate(root.findall("object"), start=1)
    )
    return collect(labelled, _read_object, log=log)


def _read_object(label: str, item: Element) -> list[RawObject]:
    frame = item.find("bndbox")
    if frame is None:
        msg = "it has no box: left out"
        raise BadObjectError(msg)
    x0, y0, x1, y1 = (float(frame.findtext(key, "nan")) for key in ("xmin", "ymin", "xmax", "ymax"))
    low, high = coordinates([(x0, y0), (x1, y1)])
    if not (low < high).all():
        msg = f"a box without an area, from {x0:g}, {y0:g} to {x1:g}, {y1:g}: left out"
        raise BadObjectError(msg)
    name = item.findtext("name", "").strip()
    return [RawObject(label=label, geometry=box([low - 1, high]), names=(name,) if name else ())]


def _stated_size(root: Element) -> Size | None:
    """The image's size, None where the file leaves it open, as some tools do with zeros."""
    values = [root.findtext(f"size/{key}", "0").strip() for key in ("width", "height")]
    if not all(value.isdecimal() and int(value) for value in values):
        return None
    return Size(width=int(values[0]), height=int(values[1]))
