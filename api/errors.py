"""Every error that slideloom raises on purpose, in one tree.

    SlideloomError
    +-- SlideNotFoundError      (FileNotFoundError)  the path names no file
    +-- SlideAccessError        (PermissionError)    the slide may not be read
    +-- SlideFormatError        (ValueError)         not a slide, or a damaged one
    +-- MissingMppError         (ValueError)         the slide states no micrometres per pixel
    +-- RegionError             (ValueError)         a rectangle, level or mpp that no slide gives
    +-- ModelNotFoundError      (LookupError)        no model of that name or folder
    +-- ModelFolderError        (ValueError)         a model folder that is incomplete or damaged
    +-- SettingsError           (ValueError)         a setting that makes no sense
    +-- RoiError                (ValueError)         a region of interest that cannot be used
    +-- AnnotationError         (ValueError)         an annotation file that cannot be opened
    +-- OutputError             (OSError)            the output folder cannot be used
    |   +-- RunLockedError                           another run writes to the output folder
    +-- RunStoppedError                              a run ended early because it was asked to
    +-- ClusterError            (RuntimeError)       the workers of a cluster are lost

A message says in one sentence what was asked and what was found, and in one what to do.
"""

__all__ = [
    "AnnotationError",
    "ClusterError",
    "MissingMppError",
    "ModelFolderError",
    "ModelNotFoundError",
    "OutputError",
    "RegionError",
    "RoiError",
    "RunLockedError",
    "RunStoppedError",
    "SettingsError",
    "SlideAccessError",
    "SlideFormatError",
    "SlideNotFoundError",
    "SlideloomError",
]


class SlideloomError(Exception):
    """Base of every error that slideloom raises on purpose."""


class SlideNotFoundError(SlideloomError, FileNotFoundError):
    """The path names no file or folder."""


class SlideAccessError(SlideloomError, PermissionError):
    """The file or folder may not be read by this user."""


class SlideFormatError(SlideloomError, ValueError):
    """The file is not a slide that any reader opens, or it is damaged."""


class MissingMppError(SlideloomError, ValueError):
    """The slide states no micrometres per pixel and none were given."""


class RegionError(SlideloomError, ValueError):
    """A rectangle, level or mpp that the slide cannot give."""


class ModelNotFoundError(SlideloomError, LookupError):
    """No built-in model of that name, and no folder at that path."""


class ModelFolderError(SlideloomError, ValueError):
    """A model folder that is incomplete, damaged or of an unknown version."""


class SettingsError(SlideloomError, ValueError):
    """A setting whose value makes no sense."""


class RoiError(SlideloomError, ValueError):
    """A region of interest that cannot be read or does not meet the slide."""


class AnnotationError(SlideloomError, ValueError):
    """An annotation file that is missing or may not be read."""


class OutputError(SlideloomError, OSError):
    """The output folder cannot be used."""


class RunLockedError(OutputError):
    """Another run writes to the output folder at this moment."""


class RunStoppedError(SlideloomError):
    """A run ended early because it was asked to; the same call again goes on from there."""


class ClusterError(SlideloomError, RuntimeError):
    """A cluster lost its scheduler or its workers; the same call again goes on from there."""
