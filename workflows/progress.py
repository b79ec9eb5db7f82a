"""Progress bars on a terminal, silence elsewhere."""

from __future__ import annotations

from threading import Lock
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from slideloom.workflows.events import Event

__all__ = ["BarProgress"]


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
        self._tasks: dict[str, TaskID] = {}
        self._lock = Lock()

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

    def hear(self, event: Event) -> None:
        """See `slideloom.workflows.events`."""
        with self._lock:
            if event.kind == "stage_started":
                title = escape(f"{event.slide}: {event.facts['stage']}")
                steps = float(event.facts["steps"])
                self._tasks[event.slide] = self._bars.add_task(title, total=steps)
            elif event.kind == "tiles_done":
                self._bars.advance(self._tasks[event.slide], float(event.facts["tiles"]))
            elif event.kind == "stage_done":
                task = self._tasks[event.slide]
                self._bars.update(task, completed=self._bars.tasks[task].total)
