"""Writers of small annotation files, one for each format, from the same drawn objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.wsi.geometry import Size

Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A polygon as a person draws it: corners without the first one again at the end."""

    name: str
    outline: Ring
    holes: tuple[Ring, ...] = ()

    @property
    def geometry(self) -> shapely.Polygon:
        return shapely.Polygon(self.outline, self.holes)


def write_geojson(path: Path, drawn: Sequence[Drawn]) -> Path:
    return write_json(path, {"type": "FeatureCollection", "features": [_feature(d) for d in drawn]})


def write_json(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def feature(geometry: dict[str, Any] | None, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _feature(drawn: Drawn) -> dict[str, Any]:
    rings = [[*ring, ring[0]] for ring in (drawn.outline, *drawn.holes)]
    return feature(
        {"type": "Polygon", "coordinates": rings},
        objectType="annotation",
        classification={"name": drawn.name, "color": [1, 2, 3]},
    )


def write_imagescope(path: Path, drawn: Sequence[Drawn]) -> Path:
    """One layer per object, so that the order is kept; a hole is a negative region."""
    layers = [
        imagescope_layer(
            [
                imagescope_region(d.outline),
                *(imagescope_region(h, NegativeROA="1") for h in d.holes),
            ],
            name=d.name,
        )
        for d in drawn
    ]
    return write_imagescope_layers(path, layers)


def write_imagescope_layers(path: Path, layers: Sequence[str], *, mpp: str = "0.25") -> Path:
    path.write_text(f'<Annotations MicronsPerPixel="{mpp}">{"".join(layers)}</Annotations>')
    return path


def imagescope_layer(regions: Sequence[str], *, name: str = "", description: str = "") -> str:
    attribute = f'<Attribute Name="Description" Value={quoteattr(description)}/>'
    return (
        f"<Annotation Name={quoteattr(name)}><Attributes>{attribute}</Attributes>"
        f"<Regions>{''.join(regions)}</Regions></Annotation>"
    )


def imagescope_region(places: Ring, **attributes: str) -> str:
    stated = {"Id": "1", "Type": "0", "Text": "", "NegativeROA": "0", **attributes}
    vertices = "".join(f'<Vertex X="{x!r}" Y="{y!r}" Z="0"/>' for x, y in places)
    return f"<Region {_attributes(stated)}><Vertices>{vertices}</Vertices></Region>"


def write_asap(path: Path, drawn: Sequence[Drawn]) -> Path:
    """ASAP has no holes."""
    items = [asap_annotation(d.outline, group=d.name) for d in drawn]
    return write_asap_items(path, items, groups={d.name: "None" for d in drawn})


def write_asap_items(path: Path, items: Sequence[str], *, groups: dict[str, str]) -> Path:
    stated = "".join(
        f"<Group {_attributes({'Name': name, 'PartOfGroup': parent})}/>"
        for name, parent in groups.items()
    )
    path.write_text(
        f'<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>{"".join(items)}</Annotations>'
        f"<AnnotationGroups>{stated}</AnnotationGroups></ASAP_Annotations>"
    )
    return path


def asap_annotation(places: Ring, *, group: str, kind: str = "Polygon") -> str:
    """The coordinates stand in the file from the last to the first: only `Order` counts."""
    coordinates = "".join(
        f'<Coordinate Order="{order}" X="{x!r}" Y="{y!r}"/>'
        for order, (x, y) in reversed(list(enumerate(places)))
    )
    stated = {"Name": "it", "Type": kind, "PartOfGroup": group}
    return (
        f"<Annotation {_attributes(stated)}><Coordinates>{coordinates}</Coordinates></Annotation>"
    )


def coco_document(drawn: Sequence[Drawn], *, size: Size, image: str = "a.png") -> dict[str, Any]:
    """COCO polygons have no holes."""
    names = sorted({d.name for d in drawn})
    return {
        "images": [{"id": 7, "file_name": image, "width": size.width, "height": size.height}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
        "annotations": [
            {
                "id": number,
                "image_id": 7,
                "category_id": names.index(d.name) + 1,
                "segmentation": [[value for place in d.outline for value in place]],
            }
            for number, d in enumerate(drawn, 1)
        ],
    }


def plain_counts(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths of a mask, pixel by pixel down its columns, beginning with those of 0."""
    counts, before = [0], False
    for value in mask.T.ravel().tolist():
        if value != before:
            counts.append(0)
            before = value
        counts[-1] += 1
    return counts


def voc_text(boxes: Sequence[tuple[str, tuple[int, int, int, int]]], *, size: Size) -> str:
    """Boxes `(x0, y0, x1, y1)` of pixels counted from 0, half-open, in the way VOC counts."""
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in boxes
    )
    return (
        f"<annotation><size><width>{size.width}</width><height>{size.height}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )


def _attributes(values: dict[str, str]) -> str:
    return " ".join(f"{key}={quoteattr(value)}" for key, value in values.items())
