"""From annotated slides to a model folder: samples, tiles, training, thresholds, card."""
