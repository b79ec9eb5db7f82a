"""One slide of a batch on its way through the stages; whatever goes wrong becomes its outcome."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic

from slideloom.errors import OutputError, RunStoppedError, SlideloomError
from slideloom.models.tile_model import TileModel
from slideloom.workflows.batch.entries import SlideEntry
from slideloom.workflows.batch.lock import RunLock
from slideloom.workflows.batch.outcomes import TRACEBACK_FILE, SlideOutcome
from slideloom.workflows.config import RunConfig
from slideloom.workflows.control import RunControl
from slideloom.workflows.events import EventKind, Fact
from slideloom.workflows.executing import Executor
from slideloom.workflows.export.atomic import atomic_file, make_folder, remove
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.places import Folder
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import SlideRun
from slideloom.wsi import Slide, SlideOptions

__all__ = ["Attempt", "Setting"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What every further slide would meet too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all slides of a batch share.

    Attributes:
        model: The model.
        out: Folder of the batch.
        lock: Of that folder.
        config: Settings.
        options: How slides are opened.
        control: Watches the batch, and may stop it.
        executor: Where regions are predicted.
    """

    model: TileModel
    out: Folder
    lock: RunLock
    config: RunConfig
    options: SlideOptions
    control: RunControl
    executor: Executor


class Attempt:
    """A slide's three stages, which are called in their order, each maybe in another thread.

    Args:
        entry: The slide.
        setting: Of the batch.
        settled: Called once, when the slide is done, failed or stopped.
    """

    def __init__(self, entry: SlideEntry, setting: Setting, *, settled: Callable[[], None]) -> None:
        self._setting, self._settled = setting, settled
        self._control = setting.control.about(entry.name)
        self._out = setting.out / entry.name
        self._slide: Slide | None = None
        self._run: SlideRun | None = None
        self._begin = 0.0
        self.outcome = SlideOutcome(entry=entry)

    def plan(self) -> None:
        """Open the slide, find its tissue, and see what an earlier run left."""
        self._begin = monotonic()
        self.outcome = replace(self.outcome, status="running")
        self._control.tell("slide_started", path=str(self.outcome.entry.source))
        self._try(self._plan)

    def predict(self) -> None:
        """Predict its regions; nothing where the slide is settled."""
        if self._run is not None:
            self._try(self._predict)

    def deliver(self) -> None:
        """Merge, measure and write; nothing where the slide is settled."""
        if self._run is not None:
            self._try(self._deliver)

    def _plan(self) -> None:
        entry, setting = self.outcome.entry, self._setting
        self._slide = Slide(entry.source, entry.options(setting.options))
        run = SlideRun(
            slide=self._slide,
            model=setting.model,
            out=self._out,
            config=entry.config(setting.config),
            control=self._control,
            executor=setting.executor,
        )
        if (kept := run.kept()) is None:
            self._run = run
        else:
            self._done(kept, kept=True)

    def _predict(self) -> None:
        # Before anything of an earlier run is removed.
        self._control.stop.check()
        if self._run is not None:
            self._run.predict()

    def _deliver(self) -> None:
        if self._run is not None:
            self._done(self._run.deliver(), kept=False)

    def _done(self, result: SlideResult, *, kept: bool) -> None:
        remove(self._out / TRACEBACK_FILE)
        self._settle(replace(self.outcome, status="done", result=result))
        self._tell(
            "slide_done",
            seconds=self.outcome.seconds,
            objects=sum(result.record.counts.values()),
            peak_memory_mb=self.outcome.peak_memory_mb,
            kept=kept,
        )

    def _try(self, stage: Callable[[], None]) -> None:
        """One stage; whatever goes wrong becomes the outcome."""
        try:
            stage()
        except RunStoppedError:
            self._settle(replace(self.outcome, status="stopped"))
        except SlideloomError as problem:
            self._fail(str(problem))
            if _needs_room(problem):
                self._control.stop.request("every further slide would fail alike")
        except Exception as problem:  # the boundary of a batch: the other slides go on
            self._fail(
                f"unexpected {type(problem).__name__}: {problem} (a fault of slideloom: see "
                "--debug)"
            )

    def _fail(self, error: str) -> None:
        trace = traceback.format_exc()
        self._settle(replace(self.outcome, status="failed", error=error, trace=trace))
        try:
            make_folder(self._out)
            with atomic_file(self._out / TRACEBACK_FILE) as file:
                file.write(trace.encode(errors="replace"))
            name = f"{self._out.name}/{TRACEBACK_FILE}"
        except OSError:
            # The disk may be what failed; the sentence stands in the manifest, if that can be.
            name = ""
        self._tell("slide_failed", seconds=self.outcome.seconds, error=error, traceback=name)

    def _tell(self, kind: EventKind, **facts: Fact) -> None:
        """Tell of the slide's end, which stays as it is where the log cannot be written."""
        try:
            self._control.tell(kind, **facts)
        except OutputError as problem:
            self._control.stop.request(str(problem))

    def _settle(self, outcome: SlideOutcome) -> None:
        self._run = None
        if self._slide is not None:
            self._slide.close()
        self.outcome = replace(
            outcome,
            seconds=round(monotonic() - self._begin, 2),
            peak_memory_mb=peak_memory_mb(),
        )
        self._settled()


def _needs_room(problem: SlideloomError) -> bool:
    """Whether the disk refuses to take more."""
    cause = problem.__cause__
    return (
        isinstance(problem, OutputError) and isinstance(cause, OSError) and cause.errno in _NO_ROOM
    )
