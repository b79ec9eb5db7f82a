"""A hash that tells slides apart without reading gigabytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_BLOCK = 2**20


def hash_files(files: Iterable[Path], *, extra: str = "") -> str:
    """SHA-256 over each file's size and 1 MiB at its head, middle and tail, in hexadecimal.

    It is quick and tells slides apart; it does not prove that a file is undamaged.

    Args:
        files: What makes up the slide, in an order that does not change.
        extra: What else tells it apart.
    """
    digest = hashlib.sha256(extra.encode())
    for path in files:
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - _BLOCK)):
                file.seek(start)
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()
