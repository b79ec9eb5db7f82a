"""One slide, from pixels to files: plan, predict, weave, measure, export."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from slideloom.models.folder import load_model
from slideloom.models.tile_model import TileModel
from slideloom.workflows.cluster import open_executor
from slideloom.workflows.config import RunConfig
from slideloom.workflows.control import RunControl
from slideloom.workflows.deliver import deliver
from slideloom.workflows.earlier import clear_work, look_back
from slideloom.workflows.executing import Executor, Threads
from slideloom.workflows.export import EXPORTERS, FOR_QUPATH, check_formats, result_exporters
from slideloom.workflows.export.atomic import (
    atomic_file,
    flush_tree,
    make_folder,
    remove,
    writing_to,
)
from slideloom.workflows.export.finished import export_result
from slideloom.workflows.export.series import series_names
from slideloom.workflows.flows import flow_for
from slideloom.workflows.flows.flow import PROBABILITIES, Weaver
from slideloom.workflows.found import Found
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.memory_gate import MemoryGate
from slideloom.workflows.memory_plan import fitted
from slideloom.workflows.places import (
    Folder,
    as_path,
    names_in,
    parse_folder,
    staged,
    whole_in,
)
from slideloom.workflows.plan import label_chunk_px, plan_run
from slideloom.workflows.refine import refined
from slideloom.workflows.regions import BAD_TILES, RegionJob, run_jobs, run_regions
from slideloom.workflows.report import write_report
from slideloom.workflows.result import (
    LABELS_FOLDER,
    PROBABILITIES_FOLDER,
    RECORD_FILE,
    REPORT_FILE,
    WORK_FOLDER,
    QaRecord,
    RunRecord,
    SlideRecord,
    SlideResult,
    SlideScoreRecord,
)
from slideloom.workflows.store import RegionStore
from slideloom.wsi import Slide, open_slide
from slideloom.wsi.writing.labels import create_labels, finish_labels
from slideloom.wsi.writing.probabilities import create_probabilities, finish_probabilities


def run_slide(
    slide: Slide | str | Path,
    model: TileModel | str | Path,
    *,
    out: str | Folder,
    config: RunConfig | None = None,
    control: RunControl | None = None,
) -> SlideResult:
    """Run a model over a slide and leave its result in a folder.

    A folder that holds the same result already is read back, not computed again, unless
    `config.overwrite`; a run that was interrupted goes on with the regions that are missing.

    Args:
        slide: A slide, or the path or URL of one.
        model: A model, or what `load_model` takes.
        out: The folder of this slide, or its URL in an object store; made where missing.
        config: Settings; None takes the defaults.
        control: Watches the run, and may stop it; None does neither.

    Raises:
        SlideloomError: See its subclasses in `slideloom.errors`.
    """
    config = config or RunConfig()
    if isinstance(model, str | Path):
        model = load_model(model, device=config.model_device)
    check_formats(config.formats, task=model.spec.task, split_mb=config.split_mb)
    if not isinstance(slide, Slide):
        with open_slide(slide) as opened:
            return run_slide(opened, model, out=out, config=config, control=control)
    folder = parse_folder(out)
    with open_executor(
        scheduler=config.scheduler, devices=config.devices, workers=config.workers, out=folder
    ) as executor:
        run = SlideRun(
            slide=slide,
            model=refined(model),
            out=folder,
            config=config,
            control=(control or RunControl()).about(slide.name),
            executor=executor,
        )
        if (kept := run.kept()) is not None:
            return kept
        run.predict()
        return run.deliver()


@dataclass(kw_only=True)
class SlideRun:
    """One slide under one model: planned when it is made, then predicted, then delivered.

    The three may lie in different threads, one after the other: a batch plans one slide and
    delivers another while it predicts a third.

    Attributes:
        slide: An open slide.
        model: The model.
        out: The folder of this slide.
        config: Settings; with a ceiling of memory, those that keep it.
        control: Watches the run, and may stop it.
        executor: Where regions are predicted and finished; threads of this process are as many as
            the settings say.
        store: The regions that are there; known once prediction begins.
        weaver: What joins them; known once prediction begins.
        anew: Why what an earlier run left cannot be kept; empty where it can.
        seconds: Wall time of the stages so far.
    """

    slide: Slide
    model: TileModel
    out: Folder
    config: RunConfig
    control: RunControl
    executor: Executor
    store: RegionStore = field(init=False)
    weaver: Weaver[Any] = field(init=False)
    anew: str = field(init=False, default="")
    seconds: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.config = fitted(self.config, spec=self.model.spec, slide=self.slide)
        if not self.executor.elsewhere:
            self.executor = Threads(self.config.workers)
        labels = self.out / LABELS_FOLDER
        self.plan = plan_run(self.slide, self.model.spec, config=self.config, labels=labels)
        self.flow = flow_for(self.model.spec.task)

    def kept(self) -> SlideResult | None:
        """The result that an earlier run left, where it is this run's; formats are added to it."""
        earlier = look_back(self.out, self.plan, config=self.config, flow=self.flow)
        self.anew = earlier.anew
        result = earlier.result
        if result is not None:
            # A run that was killed at its very end leaves it.
            self._clear_work()
            self._export(result, self._missing_formats(result.record))
        return result

    def _missing_formats(self, record: RunRecord) -> list[str]:
        """Formats that were not asked for before, or that a stop in between left unwritten."""
        cut_elsewhere = record.settings.split_mb != self.config.split_mb
        there = whole_in(self.out)
        return [
            name
            for name in self.config.formats
            if EXPORTERS[name].file_name not in there or (cut_elsewhere and name in FOR_QUPATH)
        ]

    def _export(self, result: SlideResult, formats: Collection[str]) -> None:
        """Write what the finished result is enough for."""
        if formats:
            with self._stage("formats"):
                export_result(result, formats=formats, split_mb=self.config.split_mb)

    def predict(self) -> None:
        """Predict all regions that are not there yet, and finish each beside that.

        Raises:
            RunStoppedError: The run was asked to stop; what was in work is kept.
        """
        labels = self.out / LABELS_FOLDER
        with writing_to(self.out):
            self.store = self._prepare()
            self.weaver = self._weaver(self.store, labels)
        regions = self.plan.regions
        missing = [place for place in regions.places if not self.store.has(place)]
        tiles = sum(len(self.plan.tiles_of(regions[place])) for place in missing)
        self.control.tell(
            "slide_planned",
            tiles=tiles,
            regions=len(regions),
            regions_kept=len(regions) - len(missing),
            anew=self.anew,
        )
        job = RegionJob(
            slide=self.slide,
            model=self.model,
            flow=self.flow,
            plan=self.plan,
            store=self.store,
            batch_size=self.config.batch_size,
            gate=MemoryGate(self.config.max_memory),
            control=self.control,
        )
        with self._stage("predict", steps=tiles), writing_to(labels):
            run_regions(job, self.weaver, executor=self.executor)

    def deliver(self) -> SlideResult:
        """Join what crosses regions, then measure and write all that was found."""
        labels = self.out / LABELS_FOLDER
        with self._stage("merge"), writing_to(labels):
            self.store.fetch(self.plan.regions.places)
            found = self.weaver.found(partial(run_jobs, workers=self.config.workers))
        with staged(self.out, last=[RECORD_FILE]) as stage:
            record = self._write(found, labels, stage=stage)
        self._clear_work()
        result = SlideResult(folder=as_path(self.out), record=record)
        # Last: they can be made without the model, so the same command makes them after a stop.
        self._export(result, result_exporters(self.config.formats))
        return result

    def _write(self, found: Found[Any], labels: Folder, *, stage: Path) -> RunRecord:
        """All files but the images into `stage`, of which the record is the last."""
        # The coarser levels are built while tables are made: neither needs the other.
        with self._stage("export"), ThreadPoolExecutor(1) as builder:
            levels = builder.submit(self._build_levels, labels)
            counts = deliver(
                found,
                self.slide,
                flow=self.flow,
                plan=self.plan,
                config=self.config,
                out=stage,
            )
            levels.result()
        record = self._record(found, counts, bad_tiles=self._count_bad_tiles(self.store))
        write_report(stage, record, images=self.out)
        with atomic_file(stage / RECORD_FILE) as file:
            file.write(record.model_dump_json(indent=2).encode())
        return record

    def _clear_work(self) -> None:
        """Remove the regions of a finished result; what cannot be removed harms nobody."""
        with suppress(OSError):
            remove(self.out / WORK_FOLDER)

    @contextmanager
    def _stage(self, name: str, *, steps: int = 1) -> Iterator[None]:
        with self.control.stage(name, steps=steps) as stage:
            yield
        self.seconds[name] = stage.seconds

    def _prepare(self) -> RegionStore:
        """The work folder of this plan; what another plan left is removed."""
        make_folder(self.out)
        there = names_in(self.out)
        # Not all of these are written again, and none may pass for one of the new result.
        series = [series_names(item.file_name, there) for item in EXPORTERS.values()]
        for name in chain([RECORD_FILE, REPORT_FILE], *series):
            if name in there:
                remove(self.out / name)
        return RegionStore(clear_work(self.out, self.plan, overwrite=self.config.overwrite))

    def _count_bad_tiles(self, store: RegionStore) -> int:
        """Stored tiles that were read as blank, by this run or before it was interrupted."""
        met = {(bad.level, bad.row, bad.col) for bad in self.slide.bad_tiles}
        for place in self.plan.regions.places:
            met.update(map(tuple, store.load_array(place, BAD_TILES).tolist()))
        return len(met)

    def _weaver(self, store: RegionStore, folder: Folder) -> Weaver[Any]:
        """With new label images in `folder`, and new probabilities where they are kept."""
        remove(folder)
        images = self.flow.label_images(self.model.spec)
        labels: dict[str, Any] = {}
        if images:
            arrays = create_labels(
                folder,
                images,
                size=self.plan.grid.extent,
                mpp=self.plan.grid.mpp,
                chunk_px=label_chunk_px(self.plan),
            )
            labels = {image.name: array for image, array in zip(images, arrays, strict=True)}
        probabilities = self.out / PROBABILITIES_FOLDER
        remove(probabilities)
        image = self.flow.probability_image(self.plan)
        if image:
            labels[PROBABILITIES] = create_probabilities(
                probabilities,
                image.channels,
                size=image.size,
                mpp=image.mpp,
                chunk_px=image.chunk_px,
            )
        return self.flow.weaver(self.plan, store, labels=labels)

    def _build_levels(self, labels: Folder) -> None:
        workers = self.config.workers
        with writing_to(labels):
            if self.flow.label_images(self.model.spec):
                finish_labels(labels, threads=workers)
                flush_tree(labels)
            if self.flow.probability_image(self.plan):
                probabilities = self.out / PROBABILITIES_FOLDER
                finish_probabilities(probabilities, threads=workers)
                flush_tree(probabilities)

    def _record(self, found: Found[Any], counts: dict[str, int], *, bad_tiles: int) -> RunRecord:
        plan, slide = self.plan, self.slide
        scores = self.flow.slide_scores(found, plan=plan)
        share = 1.0 if plan.tissue is None else plan.tissue.fraction
        return RunRecord(
            key=plan.key,
            parts=dict(plan.parts),
            slide=SlideRecord(
                path=str(slide.path),
                name=slide.name,
                fingerprint=slide.fingerprint(),
                reader=slide.reader_name,
                options=slide.options,
                width=slide.size.width,
                height=slide.size.height,
                mpp=plan.slide_mpp,
                bounds_x=int(slide.bounds_offset.x),
                bounds_y=int(slide.bounds_offset.y),
            ),
            model=self.model.spec,
            settings=self.config,
            qa=QaRecord(
                read_mpp=plan.grid.mpp,
                tiles=len(plan.grid),
                tiles_predicted=int(plan.selected.sum()),
                tissue_percent=round(100 * share, 2),
                bad_tiles=bad_tiles,
                recombined=found.recombined,
                conflicts=found.conflicts,
                seam_score=None if found.seam.score is None else round(found.seam.score, 5),
            ),
            counts=counts,
            slide_scores={
                name: SlideScoreRecord(**asdict(score))
                for name, score in zip(plan.class_names, scores, strict=False)
            },
            stain_vectors=plan.stain_vectors,
            seconds=self.seconds,
            peak_memory_mb=peak_memory_mb(),
            versions={name: version(name) for name in ("slideloom", "torch", "numpy", "dask")},
        )
