"""What is wrong in annotation files: collected, not raised, so that one report shows it all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_HEADER = ("file", "object", "what is wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        file: The annotation file.
        object: Which object of the file, in the file's own words; empty for the file as a whole.
        problem: What is wrong, and what was done about it.
    """

    file: Path
    object: str
    problem: str


class BadObjectError(ValueError):
    """An object that cannot be used; the message is its fault. It never leaves this package."""


class FaultLog:
    """The faults of one file, in the order in which they are found."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._faults: dict[Fault, None] = {}

    def add(self, problem: str, *, object: str = "") -> None:
        """Note a fault of an object, or of the file; the same one counts once."""
        self._faults[Fault(file=self._file, object=object, problem=problem)] = None

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All so far."""
        return tuple(self._faults)


def fault_table(faults: Iterable[Fault]) -> str:
    """The faults as plain text with a header, one line each; one sentence where there are none."""
    rows = [(str(fault.file), fault.object, fault.problem) for fault in faults]
    if not rows:
        return "no faults in the annotations"
    table = [_HEADER, *(tuple(" ".join(cell.split()) for cell in row) for row in rows)]
    first, second = (max(len(row[column]) for row in table) for column in (0, 1))
    return "\n".join(f"{file:<{first}}  {name:<{second}}  {text}" for file, name, text in table)
