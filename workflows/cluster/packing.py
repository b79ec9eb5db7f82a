"""How what tasks need travels to workers: pickled once, unpickled once in each worker process."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

import cloudpickle

__all__ = ["Packed", "pack"]

# A slide in work takes four places: its job and weaver, the slide itself and the model, which the
# next slide's job has again. So two slides may be in work at one time.
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Packed:
    """Something in its pickled form.

    Attributes:
        digest: SHA-256 of `data`, by which a process knows what it has unpickled already.
        data: The pickle; parts that were packed apart are in it as `Packed`.
    """

    digest: str
    data: bytes

    def unpack(self) -> object:
        """What was packed; the same object for the same content, as long as it is kept.

        A process keeps the latest few things: the model, its weights and the open slide stay from
        task to task, and the model from slide to slide.
        """
        return _KEEPER.unpack(self)


def pack(thing: object, *, apart: Sequence[object] = ()) -> Packed:
    """Pickle something for other processes, in which relative paths become absolute.

    Args:
        thing: What travels.
        apart: Parts of it to pickle on their own, so that a process that has the part of another
            thing already takes that one.
    """
    file = io.BytesIO()
    # It takes classes of a user's script too, which workers cannot import.
    pickler = cloudpickle.Pickler(file)
    pickler.persistent_id = lambda part: _in_its_place(part, apart)
    pickler.dump(thing)
    data = file.getvalue()
    return Packed(hashlib.sha256(data).hexdigest(), data)


def _in_its_place(part: object, apart: Sequence[object]) -> Packed | Path | None:
    """What is pickled for a part of a thing; None for the part itself."""
    if any(part is item for item in apart):
        return pack(part)
    # A worker has a working folder of its own.
    if isinstance(part, Path) and not part.is_absolute():
        return part.absolute()
    return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, placed: Packed | Path) -> object:
        return placed.unpack() if isinstance(placed, Packed) else placed


class _Keeper:
    """The things that were unpacked last in this process."""

    def __init__(self) -> None:
        # A thing may hold others, and two threads may ask for the same one at one time.
        self._lock = RLock()
        self._things: OrderedDict[str, object] = OrderedDict()

    def unpack(self, packed: Packed) -> object:
        with self._lock:
            if packed.digest not in self._things:
                self._things[packed.digest] = _Unpickler(io.BytesIO(packed.data)).load()
            self._things.move_to_end(packed.digest)
            while len(self._things) > _KEPT:
                self._things.popitem(last=False)
            return self._things[packed.digest]


_KEEPER = _Keeper()
