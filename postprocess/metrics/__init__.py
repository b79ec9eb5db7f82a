"""How well what was found agrees with what was annotated: one file for each kind of truth."""
