import errno
import io
import re
from threading import Thread
from typing import Any

import pytest
from rich.console import Console

from slideloom.workflows.batch.live import LINE_S, LiveTable
from slideloom.workflows.batch.stopping import STOPPING
from slideloom.workflows.control import RunControl, StopFlag
from slideloom.workflows.events import Event

ODD = "[red]S1[/] [/nothing] \x1b[2J\n\udcff"
ODD_SHOWN = "[red]S1[/] [/nothing] \ufffd[2J\ufffd\ufffd"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Screen:
    """A table on a terminal of a given width, or on none, told of events."""

    def __init__(self, *, width: int = 80, terminal: bool = True) -> None:
        self.clock, self.stop = Clock(), StopFlag()
        self.file = io.StringIO()
        self._console = Console(file=self.file, width=width, force_terminal=terminal)
        self.table = LiveTable(stop=self.stop, console=self._console, clock=self.clock)

    def tell(self, kind: Any, slide: str = "", **facts: Any) -> None:
        self.table.hear(Event(kind=kind, slide=slide, facts=facts))

    def begin(self, slide: str, *, tiles: int, kept: int = 0, anew: str = "") -> None:
        self.tell("slide_started", slide, path=f"{slide}.svs")
        self.tell("slide_planned", slide, tiles=tiles, regions=9, regions_kept=kept, anew=anew)
        self.tell("stage_started", slide, stage="predict", steps=tiles)

    def end(self, slide: str, *, objects: int = 7, kept: bool = False) -> None:
        self.tell("slide_done", slide, seconds=61.2, objects=objects, peak_memory_mb=9.0, kept=kept)

    def fail(self, slide: str, error: str) -> None:
        self.tell("slide_failed", slide, seconds=1.0, error=error, traceback="")

    def lines(self) -> list[str]:
        """The table as it is drawn now."""
        with self._console.capture() as captured:
            self._console.print(self.table._render())
        return plain_lines(captured.get())

    def row(self, slide: str) -> list[str]:
        (line,) = [line for line in self.lines() if line.startswith(f"{slide} ")]
        return line.split()

    def said(self) -> list[str]:
        """Lines that stay, without their time of day."""
        lines = self.file.getvalue().splitlines()
        times = [line[:20] for line in lines]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", time) for time in times)
        return [line[20:] for line in lines]


def plain_lines(text: str) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()]


def test_each_slide_in_work_has_a_row() -> None:
    screen = Screen()
    screen.tell("run_started", slides=12)
    screen.begin("S1", tiles=4000)
    screen.clock.seconds = 10.0
    screen.tell("tiles_done", "S1", tiles=1000)
    screen.tell("slide_started", "S2", path="S2.svs")
    name, stage, *_, tiles, speed, left = screen.row("S1")
    assert (name, stage) == ("S1", "predict")
    assert (tiles, speed, left) == ("1,000/4,000", "100.0/s", "0:00:30")
    assert screen.row("S2") == ["S2", "plan"]
    assert screen.lines()[0].startswith("0 of 12 slides ")
    screen.tell("stage_done", "S1", stage="predict", seconds=3.0)
    assert screen.row("S1") == ["S1", "waiting"]
    screen.tell("stage_started", "S1", stage="merge", steps=1)
    assert screen.row("S1") == ["S1", "merge"]
    screen.end("S1")
    assert not [line for line in screen.lines() if line.startswith("S1 ")]
    assert screen.lines()[0].startswith("1 of 12 slides ")


def test_what_ended_last_stays_a_while() -> None:
    screen = Screen()
    screen.tell("run_started", slides=12)
    screen.begin("S1", tiles=40)
    screen.fail("S1", "slide 'S1.svs' is damaged")
    screen.begin("S2", tiles=40)
    screen.end("S2", objects=1234)
    screen.tell("slide_started", "S3", path="S3.svs")
    screen.end("S3", kept=True)
    lines = screen.lines()
    assert lines[0].startswith("3 of 12 slides, 1 failed ")
    first = lines.index("failed S1: slide 'S1.svs' is damaged")
    assert lines[first + 1 : first + 3] == [
        "done S2: 1,234 found in 0:01:01",
        "kept S3: 7 found by an earlier run",
    ]
    for number in range(9):
        screen.fail(f"T{number}", "gone")
    lines = screen.lines()
    assert not [line for line in lines if " S1:" in line]
    assert "failed T8: gone" in lines


def test_speed_is_that_of_the_last_half_minute() -> None:
    screen = Screen()
    screen.begin("S1", tiles=100_000)
    for _ in range(100):
        screen.clock.seconds += 1.0
        screen.tell("tiles_done", "S1", tiles=100)
    assert screen.row("S1")[-2] == "100.0/s"
    for _ in range(40):
        screen.clock.seconds += 1.0
        screen.tell("tiles_done", "S1", tiles=10)
    assert screen.row("S1")[-2] == "10.0/s"
    screen.clock.seconds += 10_000
    assert screen.row("S1")[-1] == "0.0/s"


def test_the_time_left_of_a_run_counts_slides_that_nobody_has_seen() -> None:
    screen = Screen()
    screen.clock.seconds = 1000.0
    screen.tell("run_started", slides=5)
    assert "left" not in screen.lines()[0]
    screen.tell("slide_started", "S0", path="S0.svs")
    screen.end("S0", kept=True)
    screen.begin("S1", tiles=100)
    screen.clock.seconds += 100.0
    screen.tell("tiles_done", "S1", tiles=100)
    screen.end("S1")
    # One tile in a second. S2 has 260 left, S3 and S4 are taken for (100 + 300) / 2 each.
    screen.begin("S2", tiles=300)
    screen.clock.seconds += 40.0
    screen.tell("tiles_done", "S2", tiles=40)
    assert screen.lines()[0].endswith(" 0:11:00 left")


def test_memory_is_shown() -> None:
    foot = Screen().lines()[-1]
    found = re.search(r"memory ([\d.]+ [MG]B), at its peak ([\d.]+ [MG]B)", foot)
    assert found is not None
    now, peak = (
        float(text.split()[0]) * (1000 if text.endswith("GB") else 1) for text in found.groups()
    )
    assert 30 < now <= peak + 100


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_it_fits_and_odd_names_are_shown_as_they_are(width: int) -> None:
    screen = Screen(width=width)
    screen.tell("run_started", slides=12345)
    for name in (ODD, "long" * 100, "S 3\U0001f52c" * 50):
        screen.begin(name, tiles=1_000_000)
        screen.clock.seconds += 10.0
        screen.tell("tiles_done", name, tiles=123_456)
    screen.fail(ODD, f"no file {ODD} of [b]this[/] name")
    screen.begin(ODD, tiles=1)
    lines = screen.lines()
    assert all(len(line) <= width for line in lines)
    if width == 120:
        assert any(line.startswith(ODD_SHOWN) for line in lines)
        assert f"failed {ODD_SHOWN}: no file {ODD_SHOWN} of [b]this[/] name" in lines


def test_one_slide_alone_needs_no_count_of_slides() -> None:
    screen = Screen()
    screen.tell("run_started", slides=1)
    screen.begin("S1", tiles=10)
    assert not [line for line in screen.lines() if "slides" in line]
    assert screen.row("S1")


def test_stages_of_a_slide_without_a_run_are_shown() -> None:
    # As `convert_slide` tells of them.
    screen = Screen()
    control = RunControl(listen=screen.table.hear).about("S1")
    with control.stage("converting", steps=200):
        screen.clock.seconds = 2.0
        control.tell("tiles_done", tiles=50)
        name, stage, *_, tiles, speed, left = screen.row("S1")
    assert (name, stage, tiles, speed, left) == (
        "S1", "converting", "50/200", "25.0/s", "0:00:06"
    )  # fmt: skip


def test_the_table_says_that_the_run_stops() -> None:
    screen = Screen(width=120)
    assert STOPPING not in screen.lines()
    screen.stop.request()
    assert screen.lines()[-1] == STOPPING
    screen.stop.request("the disk is full")
    assert screen.lines()[-1] == "stopping after the regions in work: the disk is full"


def test_only_why_a_slide_begins_anew_stays_on_a_terminal() -> None:
    screen = Screen()
    with screen.table:
        screen.tell("run_started", slides=2)
        screen.begin("S1", tiles=40, anew="changed since: the model")
        screen.end("S1")
        screen.begin("S2", tiles=40)
    text = screen.file.getvalue()
    assert "S1: begins anew: changed since: the model\n" in text
    # The last thing is to clear the table.
    assert text.rstrip().endswith("\x1b[2K")


def test_without_a_terminal_each_slide_is_a_line_or_two() -> None:
    screen = Screen(terminal=False)
    assert not screen.table.live
    with screen.table:
        screen.tell("run_started", slides=4)
        screen.begin("S1", tiles=40)
        screen.begin("S2", tiles=40, kept=3)
        for _ in range(100):
            screen.clock.seconds += 1.0
            screen.tell("tiles_done", "S2", tiles=1)
            screen.tell("region_done", "S2", row=0, col=0, tiles=1)
        screen.end("S1", objects=1234)
        screen.fail("S2", f"the [red]end[/]\n{'x' * 200}")
        screen.begin("S3", tiles=40, anew="changed since: the model")
        screen.end("S3", kept=True)
        screen.tell("run_stopped", done=2, failed=1, waiting=1)
    assert screen.said() == [
        "S1 (1 of 4): started",
        "S2 (2 of 4): started",
        "S2: goes on, 3 of 9 regions are there",
        "S1: done, 1,234 found in 0:01:01",
        f"S2: failed, the [red]end[/]\ufffd{'x' * 200}",
        "S3 (3 of 4): started",
        "S3: begins anew: changed since: the model",
        "S3: kept, 7 found by an earlier run",
        "stopped: 2 done, 1 failed, 1 waiting",
    ]


def test_a_run_that_is_done_says_so_without_a_terminal() -> None:
    screen = Screen(terminal=False)
    screen.tell("run_done", done=2, failed=1, waiting=0)
    assert screen.said() == ["all slides: 2 done, 1 failed"]


def test_a_long_slide_gives_a_line_every_ten_minutes_without_a_terminal() -> None:
    screen = Screen(terminal=False)
    screen.begin("S1", tiles=10_000)
    for _ in range(2500):
        screen.clock.seconds += 1.0
        screen.tell("tiles_done", "S1", tiles=2)
    assert screen.said()[1:] == [
        f"S1: predict, {done} of 10,000 tiles, 2.0/s, {left} left"
        for done, left in [
            ("1,200", "1:13:20"), ("2,400", "1:03:20"), ("3,600", "0:53:20"), ("4,800", "0:43:20")
        ]
    ]  # fmt: skip
    assert LINE_S == 600


def test_a_run_goes_on_though_nobody_reads() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EPIPE, "broken pipe")

    table = LiveTable(console=Console(file=Closed(), force_terminal=False))
    with table:
        table.hear(Event(kind="run_done", facts={"done": 1, "failed": 0, "waiting": 0}))


def test_many_threads_tell_while_it_is_drawn() -> None:
    screen = Screen()
    screen.tell("run_started", slides=8)

    def work(number: int) -> None:
        for step in range(20):
            screen.begin(f"S{number}-{step}", tiles=100)
            for _ in range(10):
                screen.tell("tiles_done", f"S{number}-{step}", tiles=10)
            screen.end(f"S{number}-{step}")

    with screen.table:
        threads = [Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            screen.lines()
    assert screen.table._tally.done == 160
    assert screen.table._tally.speed.tiles == 160 * 100
