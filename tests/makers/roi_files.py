"""Files of regions of interest, as QuPath writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
import shapely


def write_rois(path: Path, areas: Mapping[str, shapely.Geometry]) -> Path:
    """Annotations by name."""
    features = [
        {
            "type": "Feature",
            "properties": {"objectType": "annotation", "name": name},
            "geometry": orjson.loads(shapely.to_geojson(area)),
        }
        for name, area in areas.items()
    ]
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
    return path
