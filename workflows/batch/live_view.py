"""How a run looks on a terminal: bars, rows of slides, and what ended last."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from slideloom.workflows.batch.tally import Ending, RunTally, SlideTally, time_text

__all__ = ["draw_run", "plain", "progress_text"]

_STYLES = {"done": "green", "kept": "cyan", "failed": "bold red"}


def draw_run(tally: RunTally, *, memory: str, note: str, now: float) -> RenderableType:
    """A run as it stands.

    Args:
        tally: The run.
        memory: What to say of the memory; may be empty.
        note: Something that the user has to know at this moment; may be empty.
        now: Seconds, of the tally's clock.
    """
    parts: list[RenderableType] = []
    if tally.slides > 1:
        parts.append(_slides_bar(tally))
    parts.append(_rows(tally, now))
    parts += [_ending(ending) for ending in tally.endings]
    parts.append(_foot(tally, memory=memory, now=now))
    if note:
        parts.append(Text(note, style="bold yellow"))
    return Group(*parts)


def plain(name: str) -> str:
    """A text of the outside in one line, without what a terminal would take for a command."""
    return "".join(char if char.isprintable() else "\ufffd" for char in name)


def progress_text(slide: SlideTally, now: float) -> str:
    """The tiles of a slide, how fast they come, and when the stage ends."""
    left = slide.seconds_left(now)
    texts = [f"{slide.speed.tiles:,} of {slide.tiles:,} tiles"]
    texts.append(f"{slide.speed.per_second(now):.1f}/s")
    if left is not None:
        texts.append(f"{time_text(left)} left")
    return ", ".join(texts)


def _slides_bar(tally: RunTally) -> Table:
    ended = tally.done + tally.failed
    said = Text(f"{ended} of {tally.slides} slides")
    if tally.failed:
        said.append(f", {tally.failed} failed", style="bold red")
    left = tally.seconds_left()
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=tally.slides, completed=ended)
    row.add_row(said, bar, "" if left is None else f"{time_text(left)} left")
    return row


def _rows(tally: RunTally, now: float) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=3, min_width=8, no_wrap=True, overflow="ellipsis")
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(ratio=2)
    for _ in ("tiles", "speed", "left"):
        table.add_column(justify="right", no_wrap=True)
    for slide in tally.in_work.values():
        table.add_row(Text(plain(slide.name)), slide.stage, *_progress(slide, now))
    return table


def _progress(slide: SlideTally, now: float) -> list[RenderableType]:
    if not slide.tiles:
        return []
    done, left = slide.speed.tiles, slide.seconds_left(now)
    return [
        ProgressBar(total=slide.tiles, completed=done),
        f"{done:,}/{slide.tiles:,}",
        f"{slide.speed.per_second(now):.1f}/s",
        "" if left is None else time_text(left),
    ]


def _ending(ending: Ending) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(ending.status, style=_STYLES[ending.status])
    return text.append(f" {plain(ending.slide)}: {plain(ending.text)}")


def _foot(tally: RunTally, *, memory: str, now: float) -> Text:
    texts = [f"{time_text(now - tally.begin)} so far", memory]
    if tally.speed.tiles:
        texts.insert(1, f"{tally.speed.per_second(now):.1f} tiles/s")
    return Text("; ".join(text for text in texts if text), style="dim", no_wrap=True)
