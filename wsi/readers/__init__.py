"""The readers of slide files, one for each family of formats, and the choice among them."""
