"""One slide, from pixels to files: plan, predict, weave, measure, export."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

from slideloom.errors import OutputError
from slideloom.models.folder import load_model
from slideloom.models.tile_model import TileModel
from slideloom.tiling.grid import Region
from slideloom.workflows.config import RunConfig
from slideloom.workflows.deliver import deliver
from slideloom.workflows.export import EXPORTERS, FOR_QUPATH, check_formats, result_exporters
from slideloom.workflows.export.atomic import atomic_file, make_folder, remove, writing_to
from slideloom.workflows.export.finished import export_result
from slideloom.workflows.export.series import series_paths
from slideloom.workflows.flows import flow_for
from slideloom.workflows.flows.flow import PROBABILITIES, Weaver
from slideloom.workflows.found import Found
from slideloom.workflows.memory import peak_memory_mb
from slideloom.workflows.plan import label_chunk_px, plan_run
from slideloom.workflows.progress import QuietProgress, RunProgress
from slideloom.workflows.refine import refined
from slideloom.workflows.regions import BAD_TILES, RegionJob, run_jobs, run_regions
from slideloom.workflows.report import write_report
from slideloom.workflows.result import (
    COUNTS_FILE,
    LABELS_FOLDER,
    OBJECTS_FILE,
    PROBABILITIES_FOLDER,
    RECORD_FILE,
    REPORT_FILE,
    WORK_FOLDER,
    QaRecord,
    RunRecord,
    SlideRecord,
    SlideResult,
    SlideScoreRecord,
    load_result,
    read_record,
)
from slideloom.workflows.store import RegionStore
from slideloom.wsi import Slide, open_slide
from slideloom.wsi.writing.labels import create_labels, finish_labels
from slideloom.wsi.writing.probabilities import create_probabilities, finish_probabilities


def run_slide(
    slide: Slide | str | Path,
    model: TileModel | str | Path,
    *,
    out: str | Path,
    config: RunConfig | None = None,
    progress: RunProgress | None = None,
) -> SlideResult:
    """Run a model over a slide and leave its result in a folder.

    A folder that holds the same result already is read back, not computed again, unless
    `config.overwrite`; a run that was interrupted goes on with the regions that are missing.

    Args:
        slide: A slide, or the path or URL of one.
        model: A model, or what `load_model` takes.
        out: The folder of this slide; made where missing.
        config: Settings; None takes the defaults.
        progress: Hears about the stages; None is silent.

    Raises:
        SlideloomError: See its subclasses in `slideloom.errors`.
    """
    config = config or RunConfig()
    if isinstance(model, str | Path):
        model = load_model(model, device=config.device)
    check_formats(config.formats, task=model.spec.task, split_mb=config.split_mb)
    model = refined(model)
    if not isinstance(slide, Slide):
        with open_slide(slide) as opened:
            return run_slide(opened, model, out=out, config=config, progress=progress)
    run = _Run(
        slide=slide, model=model, out=Path(out), config=config, progress=progress or QuietProgress()
    )
    return run.finished() or run.compute()


@dataclass(kw_only=True)
class _Run:
    """One slide under one model; each stage is one method."""

    slide: Slide
    model: TileModel
    out: Path
    config: RunConfig
    progress: RunProgress
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = self.out / LABELS_FOLDER
        self.plan = plan_run(self.slide, self.model.spec, config=self.config, labels=labels)
        self.flow = flow_for(self.model.spec.task)

    def finished(self) -> SlideResult | None:
        """The result that an earlier run left, where it is this run's."""
        if self.config.overwrite:
            return None
        try:
            record = read_record(self.out)
        except OutputError:
            return None
        if record.key != self.plan.key or record.settings.measure != self.config.measure:
            return None
        # A file of stain vectors may say something else under the same name.
        if record.stain_vectors != self.plan.stain_vectors:
            return None
        files = [OBJECTS_FILE, COUNTS_FILE, REPORT_FILE]
        if self.flow.label_images(self.model.spec):
            files.append(LABELS_FOLDER)
        if self.flow.probability_image(self.plan):
            files.append(PROBABILITIES_FOLDER)
        if not all((self.out / name).exists() for name in files):
            return None
        result = load_result(self.out)
        self._export(result, self._missing_formats(record))
        return result

    def _missing_formats(self, record: RunRecord) -> list[str]:
        """Formats that were not asked for before, or that a stop in between left unwritten."""
        cut_elsewhere = record.settings.split_mb != self.config.split_mb
        return [
            name
            for name in self.config.formats
            if not (self.out / EXPORTERS[name].file_name).exists()
            or (cut_elsewhere and name in FOR_QUPATH)
        ]

    def _export(self, result: SlideResult, formats: Collection[str]) -> None:
        """Write what the finished result is enough for."""
        if formats:
            with self._stage("formats", 1):
                export_result(result, formats=formats, split_mb=self.config.split_mb)
                self.progress.advance(1)

    def compute(self) -> SlideResult:
        """All stages."""
        store = self._prepare()
        labels = self.out / LABELS_FOLDER
        weaver = self._weaver(store, labels)
        with self._stage("predict", int(self.plan.selected.sum())), writing_to(labels):
            self._predict(store, weaver)
        with self._stage("merge", 1), writing_to(labels):
            found = weaver.found(partial(run_jobs, workers=self.config.workers))
            self.progress.advance(1)
        # The coarser levels are built while tables are made: neither needs the other.
        with self._stage("export", 1), ThreadPoolExecutor(1) as builder:
            levels = builder.submit(self._build_levels, labels)
            counts = deliver(
                found,
                self.slide,
                flow=self.flow,
                plan=self.plan,
                config=self.config,
                out=self.out,
            )
            levels.result()
            self.progress.advance(1)
        record = self._record(found, counts, bad_tiles=self._count_bad_tiles(store))
        write_report(self.out, record)
        with atomic_file(self.out / RECORD_FILE) as file:
            file.write(record.model_dump_json(indent=2).encode())
        shutil.rmtree(self.out / WORK_FOLDER)
        result = SlideResult(folder=self.out, record=record)
        # Last: they can be made without the model, so the same command makes them after a stop.
        self._export(result, result_exporters(self.config.formats))
        return result

    @contextmanager
    def _stage(self, name: str, steps: int) -> Iterator[None]:
        self.progress.start(name, steps)
        start = monotonic()
        yield
        self.seconds[name] = round(monotonic() - start, 3)

    def _prepare(self) -> RegionStore:
        """The work folder of this plan; what another plan left is removed."""
        make_folder(self.out)
        work = self.out / WORK_FOLDER
        for name in (RECORD_FILE, REPORT_FILE):
            (self.out / name).unlink(missing_ok=True)
        # Not all of these are written again, and none may pass for one of the new result.
        for item in EXPORTERS.values():
            for path in series_paths(self.out / item.file_name):
                remove(path)
        for old in work.glob("*"):
            if old.name != self.plan.key or self.config.overwrite:
                shutil.rmtree(old)
        return RegionStore(work / self.plan.key)

    def _predict(self, store: RegionStore, weaver: Weaver[Any]) -> None:
        job = RegionJob(
            slide=self.slide,
            model=self.model,
            flow=self.flow,
            plan=self.plan,
            store=store,
            batch_size=self.config.batch_size,
            advance=self.progress.advance,
        )

        def predict(region: Region) -> None:
            if store.has(region.index):
                self.progress.advance(len(self.plan.tiles_of(region)))
            else:
                job.run(region)

        run_regions(
            self.plan.regions, predict=predict, finish=weaver.finish, workers=self.config.workers
        )

    def _count_bad_tiles(self, store: RegionStore) -> int:
        """Stored tiles that were read as blank, by this run or before it was interrupted."""
        met = {(bad.level, bad.row, bad.col) for bad in self.slide.bad_tiles}
        for region in self.plan.regions:
            met.update(map(tuple, store.load_array(region.index, BAD_TILES).tolist()))
        return len(met)

    def _weaver(self, store: RegionStore, folder: Path) -> Weaver[Any]:
        """With new label images in `folder`, and new probabilities where they are kept."""
        shutil.rmtree(folder, ignore_errors=True)
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
        shutil.rmtree(probabilities, ignore_errors=True)
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

    def _build_levels(self, labels: Path) -> None:
        workers = self.config.workers
        with writing_to(labels):
            if self.flow.label_images(self.model.spec):
                finish_labels(labels, threads=workers)
            if self.flow.probability_image(self.plan):
                finish_probabilities(self.out / PROBABILITIES_FOLDER, threads=workers)

    def _record(self, found: Found[Any], counts: dict[str, int], *, bad_tiles: int) -> RunRecord:
        plan, slide = self.plan, self.slide
        scores = self.flow.slide_scores(found, plan=plan)
        share = 1.0 if plan.tissue is None else plan.tissue.fraction
        return RunRecord(
            key=plan.key,
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
