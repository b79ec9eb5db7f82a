"""Files that a run leaves for other programs."""
