"""Slides whose two classes overlap: `python -m benchmarks.examples_overlapping --out DIR`.

Made tissue (see `slideloom.testing`), as TIFF with QuPath's GeoJSON beside it: `epithelium` are the
nests and gland walls, and `nucleus` is every nucleus, so that nuclei of the epithelium are both.
The last slides are in a folder `test`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.postprocess.measure.outlines import trace_outlines
from slideloom.postprocess.pixels import PixelSets
from slideloom.testing import Scene, make_scene, render_scene, write_slide
from slideloom.testing._layout import PITCH_UM
from slideloom.wsi.geometry import Size

MPP = 0.5
EPITHELIUM, NUCLEUS = "epithelium", "nucleus"
COLORS = {EPITHELIUM: [27, 158, 119], NUCLEUS: [74, 58, 167]}
_IDS = UUID("6f0d5a52-54b7-4f0e-9b0c-0f2a4c7c9a11")


def epithelium_mask(scene: Scene) -> NDArray[np.bool_]:
    """`(y, x)`: nests and gland walls of a scene, without lumens and glass."""
    y, x = ((np.arange(side) + 0.5) * scene.mpp / PITCH_UM for side in scene.size.shape)
    places = np.meshgrid(y, x, indexing="ij")
    inside, white = (
        ndimage.map_coordinates(field, places, order=1, mode="nearest")
        for field in (scene.layout.epithelium, scene.layout.white)
    )
    return np.asarray((inside > 0) & (white <= 0), np.bool_)


def qupath_json(scene: Scene, *, seed: int) -> dict[str, Any]:
    """QuPath's GeoJSON of a scene: the epithelium, and each nucleus on top of it."""
    areas = shapely.get_parts(_outlines(epithelium_mask(scene).astype(np.int32)))
    found = [(EPITHELIUM, shape) for shape in areas]
    found += [(NUCLEUS, shape) for shape in _outlines(scene.labels)]
    features = [
        {
            "type": "Feature",
            "id": str(uuid5(_IDS, f"{seed}-{number}")),
            "geometry": json.loads(shapely.to_geojson(shape)),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": COLORS[name]},
            },
        }
        for number, (name, shape) in enumerate(found)
    ]
    return {"type": "FeatureCollection", "features": features}


def _outlines(labels: NDArray[np.int32]) -> NDArray[np.object_]:
    sets = PixelSets.from_labels(labels, count=int(labels.max()), x0=0, y0=0)
    return trace_outlines(sets).geometry


def make_slides(out: Path, *, slides: int, test: int, side_px: int) -> None:
    """Write `slides` square slides of 0.5 um/px; the last `test` of them are for testing."""
    for seed in range(slides):
        folder = out / ("test" if seed >= slides - test else "train")
        folder.mkdir(parents=True, exist_ok=True)
        scene = make_scene(size=Size(width=side_px, height=side_px), mpp=MPP, seed=100 + seed)
        write_slide(folder / f"made-{seed:02}.tif", render_scene(scene), mpp=MPP)
        text = json.dumps(qupath_json(scene, seed=seed), separators=(",", ":"))
        (folder / f"made-{seed:02}.geojson").write_text(text, encoding="utf-8")


def main() -> None:
    """Read the command line and make the slides."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the slides")
    parser.add_argument("--slides", type=int, default=10)
    parser.add_argument("--test", type=int, default=3, help="how many of them are for testing")
    parser.add_argument("--side-px", type=int, default=1200)
    given = parser.parse_args()
    make_slides(given.out, slides=given.slides, test=given.test, side_px=given.side_px)


if __name__ == "__main__":
    main()
