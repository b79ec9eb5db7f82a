"""Batches: every slide is tried, slides overlap, and what is left says how each went."""

import json
import shutil
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pandas as pd
import pytest

from slideloom.errors import RunLockedError
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows.batch.entries import find_entries
from slideloom.workflows.batch.lock import RunLock
from slideloom.workflows.batch.outcomes import SlideOutcome
from slideloom.workflows.batch.run import run_batch
from slideloom.workflows.config import RunConfig
from slideloom.workflows.control import RunControl, StopFlag
from slideloom.workflows.events import Event, Listener, ignore
from slideloom.wsi import SlideOptions

CONFIG = RunConfig(tissue=False, region_px=512, workers=1)
PATIENCE_S = 120
"""Until a test says that something never happens."""


@pytest.fixture
def slides(slide_path: Path, tmp_path: Path) -> Path:
    """Three slides, and a file that is none."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(slide_path, folder / f"{name}.tif")
    (folder / "bad.tif").write_bytes(b"II*\0 and no slide")
    return folder


@pytest.fixture
def run(scene: Scene, tmp_path: Path) -> Any:
    spec = perfect_spec(scene, task="instance", tile_px=512, halo_px=32)

    def call(
        *paths: Path,
        config: RunConfig = CONFIG,
        listen: Listener = ignore,
        stop: StopFlag | None = None,
    ) -> list[SlideOutcome]:
        return run_batch(
            find_entries(paths),
            PerfectTileModel(scene, spec=spec),
            out=tmp_path / "out",
            config=config,
            options=SlideOptions(),
            control=RunControl(listen=listen, stop=stop or StopFlag()),
        )

    return call


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


def test_every_slide_is_tried_and_a_failure_is_its_row(
    run: Any, slides: Path, tmp_path: Path
) -> None:
    outcomes = run(slides)
    assert [outcome.status for outcome in outcomes] == ["done", "done", "failed", "done"]
    rows = pd.read_csv(tmp_path / "out" / "manifest.csv").set_index("id")
    assert rows["status"].to_dict() == {"a": "done", "b": "done", "bad": "failed", "c": "done"}
    assert str(rows.loc["bad", "error"]).startswith("slide 'bad.tif' is ")
    assert rows.loc["bad", "traceback"] == "bad/traceback.txt"
    trace = (tmp_path / "out" / "bad" / "traceback.txt").read_text()
    assert trace.startswith("Traceback")
    assert "SlideFormatError" in trace
    assert rows.loc["a", "nucleus"] == outcomes[0].result.record.counts["nucleus"] > 0
    shutil.copy(slides / "a.tif", slides / "bad.tif")
    assert [outcome.status for outcome in run(slides)] == ["done"] * 4
    assert not (tmp_path / "out" / "bad" / "traceback.txt").exists()
    assert pd.read_csv(tmp_path / "out" / "manifest.csv")["traceback"].isna().all()


def test_a_slide_is_predicted_while_the_last_is_delivered_and_the_next_is_planned(
    run: Any, slides: Path
) -> None:
    """Each stage waits for what shall go on beside it: one after the other they would not end."""
    predicted, planned = Flag(), Flag()
    (slides / "bad.tif").unlink()

    def hear(event: Event) -> None:
        what = (event.kind, event.slide)
        if what == ("region_done", "b"):
            predicted.set()
        elif what == ("slide_started", "c"):
            planned.set()
        elif what == ("stage_started", "a") and event.facts["stage"] == "export":
            assert predicted.wait(PATIENCE_S), "b is not predicted while a is delivered"
        elif what == ("stage_started", "b") and event.facts["stage"] == "predict":
            assert planned.wait(PATIENCE_S), "c is not planned while b is predicted"

    assert [outcome.error for outcome in run(slides, listen=hear)] == ["", "", ""]


def test_a_batch_that_is_stopped_says_so_and_goes_on(
    run: Any, slides: Path, tmp_path: Path
) -> None:
    stop, out = StopFlag(), tmp_path / "out"

    def hear(event: Event) -> None:
        if event.kind == "region_done" and event.slide == "b":
            stop.request()

    outcomes = run(slides, listen=hear, stop=stop)
    assert [outcome.status for outcome in outcomes] == ["done", "stopped", "failed", "waiting"]
    assert pd.read_csv(out / "manifest.csv")["status"].tolist() == [
        outcome.status for outcome in outcomes
    ]
    assert not (out / "report.html").exists()
    first = logged(out)
    assert first[-1]["event"] == "run_stopped"
    assert (first[-1]["done"], first[-1]["failed"], first[-1]["waiting"]) == (1, 1, 2)
    run(slides)
    events = logged(out)
    regions = [(e["slide"], e["row"], e["col"]) for e in events if e["event"] == "region_done"]
    assert len(regions) == len(set(regions)) == 3 * 9
    kept = {e["slide"]: e["kept"] for e in events[len(first) :] if e["event"] == "slide_done"}
    assert kept == {"a": True, "b": False, "c": False}
    (planned,) = (
        e for e in events[len(first) :] if (e["event"], e["slide"]) == ("slide_planned", "b")
    )
    assert 1 <= planned["regions_kept"] < planned["regions"] == 9
    assert planned["anew"] == ""


def test_what_makes_a_slide_begin_anew_is_told(run: Any, slides: Path, tmp_path: Path) -> None:
    run(slides / "a.tif", slides / "b.tif")
    before = len(logged(tmp_path / "out"))
    (slides / "b.tif").write_bytes((slides / "b.tif").read_bytes() + b"\0")
    run(slides / "a.tif", slides / "b.tif")
    told = {e["slide"]: e for e in logged(tmp_path / "out")[before:] if e["slide"]}
    planned = [e for e in logged(tmp_path / "out")[before:] if e["event"] == "slide_planned"]
    assert [(e["slide"], e["anew"]) for e in planned] == [("b", "changed since: slide")]
    assert told["a"]["kept"]
    run(slides / "a.tif", config=CONFIG.model_copy(update={"region_px": 1000}))
    (last,) = (e for e in logged(tmp_path / "out") if e.get("anew", "").endswith("settings"))
    assert (last["slide"], last["regions_kept"]) == ("a", 0)


def test_a_second_run_on_the_same_folder_is_refused(run: Any, slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with RunLock(out), pytest.raises(RunLockedError, match="is in use by"):
        run(slides)
    assert not (out / "manifest.csv").exists()
    run(slides / "a.tif")
    assert (out / "manifest.csv").exists()
