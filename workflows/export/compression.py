"""Gzip files that are compressed in threads while the next part is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from imagecodecs import gzip_encode

__all__ = ["gzip_members"]

_THREADS = 2
_LEVEL = 6


class _Appendable(Protocol):
    def write(self, data: bytes, /) -> object: ...


@contextmanager
def gzip_members(file: _Appendable) -> Iterator[Callable[[bytes], object]]:
    """A `write` that makes one gzip member of each part it is given.

    Members in a row are one gzip file (RFC 1952, section 2.2). The same parts give the same bytes:
    the members' heads hold no name and no time. At most three parts wait in memory.

    Args:
        file: Gets the members one by one, in the order in which `write` was called.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[bytes]] = deque()

        def write(part: bytes) -> None:
            waiting.append(pool.submit(_member, part))
            if len(waiting) > _THREADS:
                file.write(waiting.popleft().result())

        yield write
        while waiting:
            file.write(waiting.popleft().result())


def _member(part: bytes) -> bytes:
    return bytes(gzip_encode(part, _LEVEL))
