"""A run on the terminal while it goes on: a live table, or plain lines where there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from threading import Lock
from time import monotonic
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from slideloom.workflows.batch.live_view import draw_run, plain, progress_text
from slideloom.workflows.batch.memory_use import Memory
from slideloom.workflows.batch.stopping import STOPPING
from slideloom.workflows.batch.tally import RunTally
from slideloom.workflows.control import StopFlag
from slideloom.workflows.events import Event

__all__ = ["LiveTable"]

PER_SECOND = 4
"""Refreshes of the table."""
LINE_S = 600.0
"""Seconds between two lines on the tiles of a slide, where there is no table."""


class LiveTable:
    """Shows a run on standard error while the block lasts.

    On a terminal that is a table: the slides that are done, one row for each slide in work with its
    stage, tiles, speed and time left, the memory now and at its peak, and what ended last; it is
    gone when the block ends. Elsewhere, as in the log of a cluster's job, it is a line with the
    time of day whenever a slide begins, is done or fails, whenever the run ends or is stopped, and
    every 10 minutes for a slide whose tiles take that long. Both say in a line that stays why a
    slide begins anew.

    Args:
        stop: The table says when it was requested.
        console: Where to; None takes standard error.
        clock: Gives seconds.

    Attributes:
        live: Whether it is a table.
    """

    def __init__(
        self,
        *,
        stop: StopFlag | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        # Not what FORCE_COLOR says: a table that is drawn again and again floods a file.
        self._console = console or Console(stderr=True, force_terminal=sys.stderr.isatty())
        self.live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._stop = stop or StopFlag()
        self._lock = Lock()
        self._clock = clock
        self._tally = RunTally(clock)
        self._memory = Memory(clock)
        self._told: dict[str, float] = {}
        self._table = Live(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> LiveTable:
        if self.live:
            self._table.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The terminal may be closed by now, which is no fault of the run.
        with suppress(OSError):
            self._table.stop()

    def hear(self, event: Event) -> None:
        """See `slideloom.workflows.events`; called from several threads."""
        with self._lock:
            self._tally.hear(event)
            line = self._line(event)
        if line and (not self.live or event.kind == "slide_planned"):
            self._say(line)

    def _line(self, event: Event) -> str:
        """What is said about an event; empty for most."""
        facts, tally, name = event.facts, self._tally, plain(event.slide)
        match event.kind:
            case "slide_started":
                self._told[event.slide] = self._clock()
                return f"{name} ({tally.started} of {tally.slides}): started"
            case "slide_planned" if facts["anew"]:
                return f"{name}: begins anew: {plain(str(facts['anew']))}"
            case "slide_planned" if facts["regions_kept"]:
                kept = f"{facts['regions_kept']} of {facts['regions']} regions"
                return f"{name}: goes on, {kept} are there"
            case "tiles_done":
                return self._progress(event.slide)
            case "slide_done" | "slide_failed":
                ending = tally.endings[-1]
                return f"{name}: {ending.status}, {plain(ending.text)}"
            case "run_stopped" | "run_done":
                counts = f"{facts['done']} done, {facts['failed']} failed"
                if event.kind == "run_done":
                    return f"all slides: {counts}"
                return f"stopped: {counts}, {facts['waiting']} waiting"
            case _:
                return ""

    def _progress(self, slide: str) -> str:
        """A line on a slide that nothing was said of for long."""
        now, counted = self._clock(), self._tally.in_work[slide]
        if now - self._told.setdefault(slide, now) < LINE_S:
            return ""
        self._told[slide] = now
        return f"{plain(slide)}: {counted.stage}, {progress_text(counted, now)}"

    def _render(self) -> RenderableType:
        with self._lock:
            return draw_run(
                self._tally,
                memory=self._memory.text(),
                note=self._note(),
                now=self._clock(),
            )

    def _note(self) -> str:
        if not self._stop.requested:
            return ""
        reason = self._stop.reason
        return f"stopping after the regions in work: {plain(reason)}" if reason else STOPPING

    def _say(self, line: str) -> None:
        """A line that stays; a run goes on though nobody reads it."""
        with suppress(OSError):
            if self.live:
                self._console.print(Text(line), soft_wrap=True)
            else:
                time = datetime.now().astimezone()
                print(f"{time:%Y-%m-%d %H:%M:%S} {line}", file=self._console.file, flush=True)
