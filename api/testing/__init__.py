"""Synthetic slides with exact ground truth, and checks that hold a result to it."""

from slideloom.testing.compare import (
    InstanceComparison,
    assert_same_instances,
    compare_instances,
)
from slideloom.testing.geojson import GeojsonFault, GeojsonSummary, validate_geojson
from slideloom.testing.imperfect import ImperfectTileModel, TileNoise
from slideloom.testing.perfect import PerfectTileModel, perfect_spec
from slideloom.testing.render import render_scene
from slideloom.testing.scene import Scene, make_scene
from slideloom.testing.slides import make_slide, write_slide

__all__ = [
    "GeojsonFault",
    "GeojsonSummary",
    "ImperfectTileModel",
    "InstanceComparison",
    "PerfectTileModel",
    "Scene",
    "TileNoise",
    "assert_same_instances",
    "compare_instances",
    "make_scene",
    "make_slide",
    "perfect_spec",
    "render_scene",
    "validate_geojson",
    "write_slide",
]
