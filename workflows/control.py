"""How a run is watched and stopped from outside while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Event as Flag
from time import monotonic

from slideloom.errors import RunStoppedError
from slideloom.workflows.events import Event, EventKind, Fact, Listener, ignore

__all__ = ["RunControl", "Stage", "StopFlag"]


class StopFlag:
    """Asks a run to end early; what is in work is finished and kept."""

    def __init__(self) -> None:
        self._flag = Flag()
        self.reason = ""

    def request(self, reason: str = "") -> None:
        """Ask for it; safe in a signal handler.

        Args:
            reason: Why, where it is not the user who asks.
        """
        self.reason = self.reason or reason
        self._flag.set()

    @property
    def requested(self) -> bool:
        """Whether it was asked for."""
        return self._flag.is_set()

    def check(self) -> None:
        """Go on, or not.

        Raises:
            RunStoppedError: It was asked for.
        """
        if self.requested:
            msg = "the run was stopped: the same command again goes on from here"
            raise RunStoppedError(msg)


class Stage:
    """How long a stage takes."""

    def __init__(self) -> None:
        self._begin = monotonic()
        self.seconds = 0.0

    def end(self) -> None:
        """Stop the clock."""
        self.seconds = round(monotonic() - self._begin, 3)


def _fresh() -> RunControl:
    return RunControl()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunControl:
    """Who watches a run, and who may stop it.

    It stays in its process: a copy that arrives in another one tells nobody and is never stopped.

    Attributes:
        listen: Told of all that happens.
        stop: Looked at before each region.
        slide: Name of the slide that events are about; empty for those about the whole run.
    """

    listen: Listener = ignore
    stop: StopFlag = field(default_factory=StopFlag)
    slide: str = ""

    def about(self, slide: str) -> RunControl:
        """The same for the events of one slide."""
        return replace(self, slide=slide)

    def tell(self, kind: EventKind, **facts: Fact) -> None:
        """Tell of one event."""
        self.listen(Event(kind=kind, slide=self.slide, facts=facts))

    @contextmanager
    def stage(self, name: str, *, steps: int = 1) -> Iterator[Stage]:
        """Tell of the beginning and the end of a stage; its time is known when it has ended."""
        self.tell("stage_started", stage=name, steps=steps)
        stage = Stage()
        yield stage
        stage.end()
        self.tell("stage_done", stage=name, seconds=stage.seconds)

    def __reduce__(self) -> tuple[object, ...]:
        return _fresh, ()
