"""What a run has done so far, counted from its events: slides, tiles, speed and the time left."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from slideloom.workflows.events import Event

__all__ = ["Ending", "RunTally", "SlideTally", "Speed", "time_text"]

RATE_S = 30.0
"""Seconds over which a speed is averaged: batches of tiles end in jerks."""
ENDINGS = 5
"""Slides that ended last and are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a slide ended.

    Attributes:
        slide: Its name.
        status: `done`, `kept` or `failed`.
        text: What was found in which time, or the error.
    """

    slide: str
    status: str
    text: str


class Speed:
    """Counts tiles, and knows how fast they came lately.

    Args:
        now: Seconds, of any clock that runs evenly.
    """

    def __init__(self, now: float) -> None:
        self.tiles = 0
        self._marks = deque([(now, 0)])

    def add(self, now: float, tiles: int) -> None:
        """Some more."""
        self.tiles += tiles
        self._marks.append((now, self.tiles))
        self._forget(now)

    def per_second(self, now: float) -> float:
        """Tiles in a second, over the last half minute or what there is of it; 0 before any."""
        self._forget(now)
        start, before = self._marks[0]
        return (self.tiles - before) / (now - start) if now > start else 0.0

    def _forget(self, now: float) -> None:
        # The last one before the span stays: the first tiles in it were begun there.
        while len(self._marks) > 1 and self._marks[1][0] <= now - RATE_S:
            self._marks.popleft()


class SlideTally:
    """A slide in work.

    Args:
        name: Of the slide.
        stage: What is done with it.
        now: Seconds.
    """

    def __init__(self, name: str, stage: str, *, now: float) -> None:
        self.name = name
        self.planned: int | None = None
        self.begin_stage(stage, steps=0, now=now)

    def begin_stage(self, stage: str, *, steps: int, now: float) -> None:
        """Something else is done with it; steps are tiles, but where there is one."""
        self.stage, self.tiles = stage, steps if steps > 1 else 0
        self.speed = Speed(now)

    def seconds_left(self, now: float) -> float | None:
        """Of the stage; None where nobody can tell."""
        rate = self.speed.per_second(now)
        return max(self.tiles - self.speed.tiles, 0) / rate if self.tiles and rate else None


class RunTally:
    """Counts what a run tells; not safe to use from several threads at once.

    Args:
        clock: Gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self.begin = clock()
        self.slides = 0
        self.started = 0
        self.done = 0
        self.failed = 0
        self.in_work: dict[str, SlideTally] = {}
        self.endings: deque[Ending] = deque(maxlen=ENDINGS)
        self.speed = Speed(self.begin)
        self._planned: list[int] = []

    def hear(self, event: Event) -> None:
        """Count one event."""
        count = _COUNTS.get(event.kind)
        if count is not None:
            count(self, event)

    def seconds_left(self) -> float | None:
        """Of the run, at the speed so far, if slides have on average as many tiles as those so far.

        None before any tile is predicted.
        """
        now = self._clock()
        if not self.speed.tiles or not self._planned or now <= self.begin:
            return None
        known = [slide for slide in self.in_work.values() if slide.planned is not None]
        unknown = max(self.slides - self.done - self.failed - len(known), 0)
        tiles = float(sum(slide.planned or 0 for slide in known))
        tiles += unknown * sum(self._planned) / len(self._planned)
        return tiles * (now - self.begin) / self.speed.tiles

    def _run_started(self, event: Event) -> None:
        self.slides, self.begin = int(event.facts["slides"]), self._clock()

    def _slide_started(self, event: Event) -> None:
        self.started += 1
        self._slide(event).begin_stage("plan", steps=0, now=self._clock())

    def _slide_planned(self, event: Event) -> None:
        slide, tiles = self._slide(event), int(event.facts["tiles"])
        slide.planned = tiles
        self._planned.append(tiles)
        slide.begin_stage("waiting", steps=0, now=self._clock())

    def _stage_started(self, event: Event) -> None:
        stage, steps = str(event.facts["stage"]), int(event.facts["steps"])
        self._slide(event).begin_stage(stage, steps=steps, now=self._clock())

    def _stage_done(self, event: Event) -> None:
        self._slide(event).begin_stage("waiting", steps=0, now=self._clock())

    def _tiles_done(self, event: Event) -> None:
        slide, tiles, now = self._slide(event), int(event.facts["tiles"]), self._clock()
        slide.speed.add(now, tiles)
        self.speed.add(now, tiles)
        if slide.planned is not None:
            slide.planned = max(slide.planned - tiles, 0)

    def _slide_done(self, event: Event) -> None:
        self.done += 1
        kept = bool(event.facts["kept"])
        found = f"{int(event.facts['objects']):,} found"
        time = " by an earlier run" if kept else f" in {time_text(float(event.facts['seconds']))}"
        self._end(event, status="kept" if kept else "done", text=found + time)

    def _slide_failed(self, event: Event) -> None:
        self.failed += 1
        self._end(event, status="failed", text=str(event.facts["error"]))

    def _end(self, event: Event, *, status: str, text: str) -> None:
        self.in_work.pop(event.slide, None)
        self.endings.append(Ending(slide=event.slide, status=status, text=text))

    def _slide(self, event: Event) -> SlideTally:
        """The slide of an event; one that nobody told of is in work from now on."""
        if event.slide not in self.in_work:
            self.in_work[event.slide] = SlideTally(event.slide, "waiting", now=self._clock())
        return self.in_work[event.slide]


def time_text(seconds: float) -> str:
    """Seconds as `3:07:15`."""
    return str(timedelta(seconds=round(seconds)))


_COUNTS: dict[str, Callable[[RunTally, Event], None]] = {
    "run_started": RunTally._run_started,
    "slide_started": RunTally._slide_started,
    "slide_planned": RunTally._slide_planned,
    "stage_started": RunTally._stage_started,
    "stage_done": RunTally._stage_done,
    "tiles_done": RunTally._tiles_done,
    "slide_done": RunTally._slide_done,
    "slide_failed": RunTally._slide_failed,
}
