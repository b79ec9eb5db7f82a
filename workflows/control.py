"""How a run is watched and stopped from outside while it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event as Flag

from slideloom.errors import RunStoppedError
from slideloom.workflows.events import Event, EventKind, Fact, Listener, ignore

__all__ = ["RunControl", "StopFlag"]


class StopFlag:
    """Asks a run to end early; what is in work is finished and kept."""

    def __init__(self) -> None:
        self._flag = Flag()

    def request(self) -> None:
        """Ask for it; safe in a signal handler."""
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


def _fresh() -> RunControl:
    return RunControl()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunControl:
    """Who watches a run, and who may stop it.

    It stays in its process: a copy that arrives in another one tells nobody and is never stopped.

    Attributes:
        listen: Told of all that happens.
        stop: Looked at before each region and each batch of tiles.
    """

    listen: Listener = ignore
    stop: StopFlag = field(default_factory=StopFlag)

    def tell(self, kind: EventKind, *, slide: str = "", **facts: Fact) -> None:
        """Tell of one event."""
        self.listen(Event(kind=kind, slide=slide, facts=facts))

    def __reduce__(self) -> tuple[object, ...]:
        return _fresh, ()
