"""Open slides, read their pixels, write pyramids."""
