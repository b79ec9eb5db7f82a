"""The graph of a slide: what waits for what, and what is told of it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from slideloom.errors import RunStoppedError
from slideloom.tiling.grid import GridIndex, Region, RegionGrid, Tile, TileGrid
from slideloom.workflows.control import RunControl, StopFlag
from slideloom.workflows.events import Event
from slideloom.workflows.executing import Threads
from slideloom.workflows.regions import run_regions
from slideloom.wsi import Size


@dataclass
class _Plan:
    regions: RegionGrid

    def tiles_of(self, region: Region) -> tuple[Tile, ...]:
        return region.tiles


@dataclass
class _Job:
    """Keeps the order of all steps; region `broken` fails, and `kept` ones are there already."""

    plan: _Plan
    control: RunControl
    broken: GridIndex | None = None
    kept: frozenset[GridIndex] = frozenset()
    steps: list[tuple[str, GridIndex]] = field(default_factory=list)

    @property
    def store(self) -> Any:
        return self

    def has(self, index: GridIndex) -> bool:
        return index in self.kept

    def run(self, region: Region) -> None:
        self.control.stop.check()
        if region.index == self.broken:
            msg = "no"
            raise ArithmeticError(msg)
        self.steps.append(("predict", region.index))

    def finish(self, region: Region) -> None:
        self.steps.append(("finish", region.index))


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def job(events: list[Event]) -> Any:
    grid = TileGrid(extent=Size(width=1000, height=700), core_px=50, halo_px=8, mpp=0.5)
    plan = _Plan(regions=RegionGrid(grid=grid, side=2))
    return _Job(plan=plan, control=RunControl(listen=events.append).about("a"))


def test_a_region_is_finished_when_those_that_reach_it_are_predicted(job: Any) -> None:
    run_regions(job, job, executor=Threads(3))
    regions = job.plan.regions
    assert len(set(job.steps)) == len(job.steps) == 2 * len(regions)
    at = {step: place for place, step in enumerate(job.steps)}
    for region in regions:
        for other in (region, *regions.reaching(region)):
            assert at["predict", other.index] < at["finish", region.index]
    first_finish = min(at["finish", region.index] for region in regions)
    assert first_finish < max(at["predict", region.index] for region in regions)


def test_the_first_error_ends_a_run_of_regions(job: Any) -> None:
    job.broken = GridIndex(row=1, col=1)
    with pytest.raises(ArithmeticError):
        run_regions(job, job, executor=Threads(2))


def test_each_region_that_was_not_there_is_told_of_once(job: Any, events: list[Event]) -> None:
    indices = [region.index for region in job.plan.regions]
    job.kept = frozenset(indices[:5])
    run_regions(job, job, executor=Threads(2))
    done = [event for event in events if event.kind == "region_done"]
    assert {event.slide for event in events} == {"a"}
    assert sorted((event.facts["row"], event.facts["col"]) for event in done) == sorted(
        (index.row, index.col) for index in indices[5:]
    )
    assert {event.facts["tiles"] for event in done} == {4}


def test_a_stop_ends_it_when_what_is_in_work_is_done(job: Any, events: list[Event]) -> None:
    flag = StopFlag()

    def stop_at_the_fourth(event: Event) -> None:
        events.append(event)
        if len(events) == 4:
            flag.request()

    job.control = RunControl(listen=stop_at_the_fourth, stop=flag)
    with pytest.raises(RunStoppedError, match="goes on from here"):
        run_regions(job, job, executor=Threads(2))
    predicted = [index for step, index in job.steps if step == "predict"]
    assert 4 <= len(predicted) <= 6 < len(job.plan.regions)
