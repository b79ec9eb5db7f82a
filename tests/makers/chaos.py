"""A batch that is started and killed, again and again, and what each start worked on."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import orjson

from slideloom.workflows.batch.event_log import EVENTS_FILE
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import WORK_FOLDER
from tests.makers.batch_folder import TORN, RegionPlace, tile_places
from tests.makers.killable import Host, Order

FAILS = 1
"""Exit code of a batch with corrupt slides."""
WORKERS = 2
PATIENCE_S = 600
"""Only a run that hangs takes so long."""
_HURRY, _WAIT = 0.6, 1.15
"""So about four kills go with each end."""


class Batch:
    """One command over the same slides, in one folder after the other.

    Args:
        host: Starts it.
        slides: Folder of the slides.
        model: Folder of the model.
        folder: For results and notes.
        region_px: Side of a region.
        extra: More words of the command.
    """

    def __init__(
        self,
        host: Host,
        slides: Path,
        *,
        model: Path,
        folder: Path,
        region_px: int,
        extra: Sequence[str] = (),
    ) -> None:
        self.host, self.folder = host, folder
        self._slides, self._model, self._extra = slides, model, extra
        self._region_px = region_px
        config = RunConfig(tissue=False, region_px=region_px)
        self._places = tile_places(slides, model, config=config)
        self._starts = self._folders = 0

    def new_out(self) -> Path:
        """A folder for results that is not there yet."""
        self._folders += 1
        return self.folder / f"out-{self._folders}"

    def words(self, out: Path) -> list[str]:
        """The command, after `slideloom`."""
        chosen = ["--model", str(self._model), "--out", str(out), "--device", "cpu"]
        return [
            "run",
            str(self._slides),
            *chosen,
            "--no-tissue",
            "--workers",
            str(WORKERS),
            *self._extra,
        ]

    def start(self, out: Path) -> None:
        """Start it in the host; `said` and `worked_on` are about this start then."""
        self._starts += 1
        self.host.start(
            Order(
                words=self.words(out),
                said=str(self._said),
                predicted=str(self._notes),
                region_px=self._region_px,
            )
        )

    def undisturbed(self) -> tuple[Path, float]:
        """Folder and seconds of a run that nobody kills."""
        out, begin = self.new_out(), time.monotonic()
        self.start(out)
        assert self.host.ended(within=PATIENCE_S) == FAILS, self.said
        # All is noted, and each region of a sound slide can be told from others.
        places = {place for places in self._places.values() for place in places}
        assert self.worked_on() >= {place for place in places if place.slide != TORN}
        return out, time.monotonic() - begin

    @property
    def said(self) -> str:
        """All that the last start printed."""
        return self._said.read_text() if self._said.exists() else ""

    @property
    def _said(self) -> Path:
        return self.folder / f"said-{self._starts}.txt"

    @property
    def _notes(self) -> Path:
        return self.folder / f"predicted-{self._starts}.txt"

    def worked_on(self) -> set[RegionPlace]:
        """Regions of which the last start predicted a tile, but for tiles that others look like."""
        hashes = self._notes.read_text().split() if self._notes.exists() else []
        found = (self._places[item] for item in hashes)
        return {place for places in found if len(places) == 1 for place in places}


class Killings:
    """Kills a batch at random moments, and sees that no start repeats what is finished.

    Args:
        batch: The batch.
        rng: Draws the moments.
        longest_s: At which a run is killed at the latest, at first: about what a whole run takes.
            Runs that end before are a reason to hurry, and killed ones to wait a little longer, so
            that there are some kills to each run's end, however busy the machine is.

    Attributes:
        count: Runs killed so far.
        between: Of these, those that left some slides or regions finished, and not all.
    """

    def __init__(self, batch: Batch, rng: Random, *, longest_s: float) -> None:
        self._batch, self._rng, self._longest_s = batch, rng, longest_s
        self.count = self.between = 0

    def run_to_the_end(self, *, at_most: int) -> Path:
        """Start in a new folder until a run ends by itself; kill no more than `at_most` in all."""
        out, host = self._batch.new_out(), self._batch.host
        before = self.count
        while True:
            begin = time.monotonic()
            finished, done = finished_regions(out), done_slides(out)
            self._batch.start(out)
            spared = self.count >= at_most
            within = PATIENCE_S if spared else self._rng.uniform(0, self._longest_s)
            code = host.ended(within=within)
            if code is None:
                assert not spared, f"it hangs: {self._batch.said}"
                code = host.kill()
            self._check_nothing_is_repeated(out, finished=finished, done=done)
            if code != -signal.SIGKILL:
                assert code == FAILS, self._batch.said
                check_log(out, kills=self.count - before)
                whole_s = time.monotonic() - begin if self.count == before else self._longest_s
                self._longest_s = _HURRY * min(self._longest_s, whole_s)
                return out
            self._longest_s *= _WAIT
            self.count += 1
            self.between += bool(finished_regions(out) or done_slides(out))

    def _check_nothing_is_repeated(
        self, out: Path, *, finished: Mapping[RegionPlace, int], done: set[str]
    ) -> None:
        """Of what was finished before the last start, nothing was predicted or written again."""
        worked_on = self._batch.worked_on()
        assert not worked_on & finished.keys()
        assert not {place.slide for place in worked_on} & done
        left, done_now = finished_regions(out), done_slides(out)
        for place, inode in finished.items():
            assert place.slide in done_now or left.get(place) == inode


def check_log(out: Path, *, kills: int) -> None:
    """By the log of all starts, no region was predicted twice, and nearly all were once.

    Of regions that were just finished when a run was killed the log may not tell.
    """
    lines = (out / EVENTS_FILE).read_text().splitlines()
    events = [orjson.loads(line) for line in lines]
    told = Counter(
        RegionPlace(event["slide"], event["row"], event["col"])
        for event in events
        if event["event"] == "region_done"
    )
    assert max(told.values()) == 1
    planned = {e["slide"]: e["regions"] for e in events if e["event"] == "slide_planned"}
    untold = sum(
        regions - sum(place.slide == slide for place in told)
        for slide, regions in planned.items()
        if slide in done_slides(out)
    )
    assert untold <= WORKERS * kills


def finished_regions(out: Path) -> Mapping[RegionPlace, int]:
    """The regions that are kept of slides that are not done, each with its file's inode."""
    found = {}
    for path in out.glob(f"*/{WORK_FOLDER}/*/region-*.safetensors"):
        _, row, col = path.stem.split("-")
        place = RegionPlace(path.relative_to(out).parts[0], int(row), int(col))
        found[place] = path.stat().st_ino
    return found


def done_slides(out: Path) -> set[str]:
    """Names of the slides with a whole result."""
    return {path.parent.name for path in out.glob("*/result.json")}
