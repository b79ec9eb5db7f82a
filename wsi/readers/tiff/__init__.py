"""The fast reader of the TIFF family: stored tiles, decoded straight from the file."""

import logging

# tifffile logs what it finds wrong. Here that becomes an error, or does not matter.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
