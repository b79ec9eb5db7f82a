"""Grids, regions, tissue and lazy arrays."""
