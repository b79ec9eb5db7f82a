"""From tile outputs to slide-level objects: stitch, merge, polygons, measure, metrics."""
