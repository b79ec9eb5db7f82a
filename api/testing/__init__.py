"""Synthetic slides with exact ground truth, and checks that hold a result to it."""

from slideloom.testing.render import render_scene
from slideloom.testing.scene import Scene, make_scene

__all__ = [
    "Scene",
    "make_scene",
    "render_scene",
]
