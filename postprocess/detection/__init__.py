"""Boxes and points: stitched and tabulated."""
