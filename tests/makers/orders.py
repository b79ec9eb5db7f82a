"""Other orders in which regions may come: first all are predicted, then all are finished."""

from collections.abc import Callable
from functools import partial

from slideloom.tiling.grid import Region, RegionGrid
from slideloom.workflows.regions import run_jobs


def regions_in(order: Callable[[int], list[int]]) -> Callable[..., None]:
    """What stands in for `run_regions`; `order` permutes a number of regions."""

    def run(
        regions: RegionGrid,
        *,
        predict: Callable[[Region], None],
        finish: Callable[[Region], None],
        workers: int,
    ) -> None:
        listed = list(regions)
        for step in (predict, finish):
            turn = [listed[number] for number in order(len(listed))]
            run_jobs([partial(step, region) for region in turn], workers=workers)

    return run
