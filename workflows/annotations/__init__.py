"""Annotations of slides and images: one reader for each format, one form for all."""
