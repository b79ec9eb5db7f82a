"""Other orders in which regions may come: first all are predicted, then all are finished."""

from collections.abc import Callable
from functools import partial
from typing import Any

from slideloom.workflows.executing import Executor
from slideloom.workflows.flows.flow import Weaver
from slideloom.workflows.regions import RegionJob, run_jobs


def regions_in(order: Callable[[int], list[int]]) -> Callable[..., None]:
    """What stands in for `run_regions`; `order` permutes a number of regions."""

    def run(job: RegionJob, weaver: Weaver[Any], *, executor: Executor) -> None:
        listed = list(job.plan.regions)
        for step in (job.run, weaver.finish):
            turn = [listed[number] for number in order(len(listed))]
            run_jobs([partial(step, region) for region in turn], workers=executor.workers)

    return run
