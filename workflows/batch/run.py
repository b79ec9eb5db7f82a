"""Run a batch: every slide is tried, the next is planned and the last delivered beside each."""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from threading import Lock

from slideloom.errors import OutputError
from slideloom.models.tile_model import TileModel
from slideloom.workflows.batch.attempt import Attempt, Setting
from slideloom.workflows.batch.checks import check_batch
from slideloom.workflows.batch.entries import SlideEntry
from slideloom.workflows.batch.event_log import EventLog
from slideloom.workflows.batch.lock import RunLock
from slideloom.workflows.batch.outcomes import SlideOutcome, write_page, write_tables
from slideloom.workflows.cluster import open_executor
from slideloom.workflows.config import RunConfig
from slideloom.workflows.control import RunControl
from slideloom.workflows.events import tell_all
from slideloom.workflows.executing import thread_pool
from slideloom.workflows.export.atomic import make_folder, remove
from slideloom.workflows.places import Folder
from slideloom.workflows.refine import refined
from slideloom.workflows.result import REPORT_FILE
from slideloom.wsi import SlideOptions

__all__ = ["run_batch"]


def run_batch(
    entries: Sequence[SlideEntry],
    model: TileModel,
    *,
    out: Folder,
    config: RunConfig,
    options: SlideOptions,
    control: RunControl | None = None,
) -> list[SlideOutcome]:
    """Run a model over slides; one slide's failure does not stop the others.

    Args:
        entries: The slides.
        model: The model.
        out: Gets one folder for each slide, `manifest.csv`, `counts.csv`, `events.jsonl` and
            `report.html`.
        config: Settings.
        options: How the slides are opened.
        control: Watches the batch, and may stop it; None does neither.

    Returns:
        How each slide went, in the order of `entries`.

    Raises:
        OutputError: `out` cannot be written to, or (`RunLockedError`) another run does so.
        RoiError: There is no such ROI file.
        SettingsError: See `check_batch` and `open_executor`.
    """
    control = control or RunControl()
    check_batch(model.spec, config)
    make_folder(out)
    with RunLock(out) as lock, EventLog(out) as log:
        control = replace(control, listen=tell_all(log.hear, control.listen))
        # A run that is stopped shall not leave the page of another one.
        remove(out / REPORT_FILE)
        with open_executor(
            scheduler=config.scheduler,
            devices=config.devices,
            workers=config.workers,
            out=out,
            say=_say,
        ) as executor:
            setting = Setting(
                model=refined(model),
                out=out,
                lock=lock,
                config=config,
                options=options,
                control=control,
                executor=executor,
            )
            return _run_all(entries, setting)


def _run_all(entries: Sequence[SlideEntry], setting: Setting) -> list[SlideOutcome]:
    """The batch between its first event and its last."""
    control, model, out = setting.control, setting.model, setting.out
    control.tell("run_started", slides=len(entries), **_provenance(model, out))
    batch = _Batch(entries, setting)
    batch.run()
    counts = Counter(outcome.status for outcome in batch.outcomes)
    waiting = counts["waiting"] + counts["stopped"]
    if not waiting:
        write_page(batch.outcomes, out, model=model.spec)
    control.tell(
        "run_stopped" if waiting else "run_done",
        done=counts["done"],
        failed=counts["failed"],
        waiting=waiting,
    )
    return batch.outcomes


def _say(text: str) -> None:
    print(f"slideloom: {text}", file=sys.stderr)


def _provenance(model: TileModel, out: Folder) -> dict[str, str | int]:
    """Who runs what, for the event log."""
    return {
        "model": model.spec.name,
        "out": str(out),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "version": version("slideloom"),
    }


class _Batch:
    """All slides, up to three of them in work, each in another stage."""

    def __init__(self, entries: Sequence[SlideEntry], setting: Setting) -> None:
        self._setting = setting
        self._attempts = [Attempt(entry, setting, settled=self._write_tables) for entry in entries]
        self._writing = Lock()
        self._fault: OutputError | None = None

    @property
    def outcomes(self) -> list[SlideOutcome]:
        """How each slide went so far."""
        return [attempt.outcome for attempt in self._attempts]

    def run(self) -> None:
        """Take all slides through their stages, unless the batch is stopped.

        Raises:
            OutputError: The tables could not be written in the end, or (`RunLockedError`) another
                run has taken the folder over while this one was suspended.
        """
        self._write_tables()
        with thread_pool(1) as planner, thread_pool(1) as deliverer:
            self._weave(planner, deliverer)
        if self._fault is not None:
            raise self._fault

    def _weave(self, planner: ThreadPoolExecutor, deliverer: ThreadPoolExecutor) -> None:
        """Predict slide by slide; plan the next one and deliver the last one meanwhile."""
        stop = self._setting.control.stop
        waiting = iter(self._attempts)
        following = _submit(planner, next(waiting, None))
        delivery: Future[None] | None = None
        while following is not None:
            attempt, planned = following
            planned.result()
            self._setting.lock.check()
            following = None if stop.requested else _submit(planner, next(waiting, None))
            attempt.predict()
            # No more than one waits to be delivered, so memory is that of three slides at most.
            if delivery is not None:
                delivery.result()
            self._setting.lock.check()
            delivery = deliverer.submit(attempt.deliver)
        if delivery is not None:
            delivery.result()

    def _write_tables(self) -> None:
        """The tables as things stand; slides settle in several threads.

        What cannot be written stops the batch, and is raised once what is in work has ended.
        """
        setting = self._setting
        with self._writing:
            try:
                write_tables(self.outcomes, setting.out, model=setting.model.spec)
                self._fault = None
            except OutputError as problem:
                self._fault = problem
                setting.control.stop.request(str(problem))


def _submit(
    planner: ThreadPoolExecutor, attempt: Attempt | None
) -> tuple[Attempt, Future[None]] | None:
    return None if attempt is None else (attempt, planner.submit(attempt.plan))
