"""Pyramids on disk: label images, OME-Zarr and OME-TIFF."""
