"""What happens in a run, told to whoever listens: the event log and the live table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Event", "EventKind", "Listener", "ignore", "tell_all"]

EventKind = Literal[
    "run_started",
    "slide_started",
    "slide_planned",
    "stage_started",
    "tiles_done",
    "region_done",
    "stage_done",
    "slide_done",
    "slide_failed",
    "run_stopped",
    "run_done",
]
"""Facts of each, by name:

- `run_started`: `slides`, `model`, `out`, `pid`, `host`, `version`
- `slide_started`: `path`
- `slide_planned`: `tiles` to predict, `regions`, `regions_kept` of an earlier run, and `anew`, why
  what an earlier run left could not be kept, else empty
- `stage_started`: `stage`, `steps`
- `tiles_done`: `tiles`, since the last such event; several times a second
- `region_done`: `row`, `col`, `tiles`; of a region that this run predicted
- `stage_done`: `stage`, `seconds`
- `slide_done`: `seconds`, `objects`, `peak_memory_mb`, and `kept`, which says that an earlier run
  had finished it
- `slide_failed`: `seconds`, `error`, `traceback`, the name of a file or empty
- `run_stopped`, `run_done`: `done`, `failed`, `waiting`
"""

Fact = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: What it was.
        slide: Name of the slide; empty where it concerns the whole run.
        facts: By name, see `EventKind`.
    """

    kind: EventKind
    slide: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)


Listener = Callable[[Event], None]
"""Is told of each event; called from several threads at once, so it has to be quick and safe."""


def ignore(event: Event) -> None:
    """Listen to nothing."""
    del event


def tell_all(*listeners: Listener) -> Listener:
    """One listener that tells several, in their order."""

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell
