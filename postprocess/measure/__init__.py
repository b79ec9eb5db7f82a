"""Outlines, shapes, intensities, tables and counts."""
