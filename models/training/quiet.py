"""Keep remarks of libraries on matters that are settled here from users."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["log_level", "quiet_lightning"]

_REMARKS = (
    # Two cores have none to spare for loader processes.
    r".*does not have many workers.*",
    # The average of the weights is in evaluation mode always.
    r".*in eval mode at the start of training.*",
    # Of Lightning itself to PyTorch.
    r".*LeafSpec.*is deprecated.*",
)


@contextmanager
def log_level(name: str, level: int) -> Iterator[None]:
    """Silence what a library logs below a level."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence remarks by their text, and messages below warnings."""
    with log_level("lightning.pytorch", logging.WARNING), warnings.catch_warnings():
        for remark in _REMARKS:
            warnings.filterwarnings("ignore", message=remark)
        yield
