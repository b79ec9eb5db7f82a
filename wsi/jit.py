"""The one way in which this project compiles its hot loops; every layer may import it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile with numba: cached on disk, and without holding Python's lock.

    The plain function stays reachable as `function.py_func`, which tests use as an oracle.
    """
    return cast("F", numba.njit(cache=True, nogil=True)(function))
