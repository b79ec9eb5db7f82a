"""The reader of OME-Zarr: folders, zips and URLs."""
