"""slideloom: whole-slide image analysis."""
