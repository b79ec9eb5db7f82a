"""Progress bars on a terminal, silence elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class RunProgress(Protocol):
    """Hears what a run is doing."""

    def start(self, stage: str, total: int) -> None:
        """A stage begins that will take `total` steps."""
        ...

    def advance(self, steps: int) -> None:
        """Some steps of the present stage are done; called from any thread."""
        ...


class QuietProgress:
    """Says nothing."""

    def start(self, stage: str, total: int) -> None:
        """See `RunProgress`."""

    def advance(self, steps: int) -> None:
        """See `RunProgress`."""


class BarProgress:
    """One bar for each stage of each slide on standard error; nothing where that is no terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._slide = ""

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begin_slide(self, name: str) -> None:
        """The bars that follow belong to this slide."""
        self._slide = name

    def start(self, stage: str, total: int) -> None:
        """See `RunProgress`."""
        self._task = self._bars.add_task(f"{self._slide}: {stage}", total=total)

    def advance(self, steps: int) -> None:
        """See `RunProgress`."""
        if self._task is not None:
            self._bars.advance(self._task, steps)
