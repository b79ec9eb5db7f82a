"""Runs whose results lie in an object store: a real server on loopback that speaks S3."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import orjson
import pandas as pd
import pytest

import slideloom as sl
from slideloom.errors import OutputError
from slideloom.models.spec import Task
from slideloom.testing import PerfectTileModel, Scene, make_scene, perfect_spec, render_scene
from slideloom.testing import write_slide as write_made_slide
from slideloom.workflows.batch.entries import find_entries
from slideloom.workflows.batch.run import run_batch
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.places import parse_folder
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size, SlideOptions
from tests.makers.object_store import BUCKET, ObjectStore, serve_objects

SEED, SIZE, MPP = 11, Size(width=500, height=420), 0.5
CONFIG = RunConfig(tissue=False, region_px=192, workers=1, batch_size=1)
TIMED = {"result.json", "report.html", "objects.xlsx"}
KILLED_AFTER = 12
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with serve_objects() as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        patch.delenv("AWS_SESSION_TOKEN", raising=False)
        patch.delenv("AWS_PROFILE", raising=False)
        yield store


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(size=SIZE, mpp=MPP, seed=SEED)


@pytest.fixture(scope="module")
def slide_path(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "made.tif"
    write_made_slide(path, render_scene(scene), mpp=MPP)
    return path


def model_of(scene: Scene, task: Task = "instance", *, tile_px: int = 128) -> PerfectTileModel:
    return PerfectTileModel(
        scene, spec=perfect_spec(scene, task=task, tile_px=tile_px, halo_px=tile_px // 8)
    )


@pytest.fixture(scope="module")
def local(slide_path: Path, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of an undisturbed run, in a folder."""
    out = tmp_path_factory.mktemp("local") / "made"
    run_slide(slide_path, model_of(scene), out=out, config=CONFIG)
    return out


def local_files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_same(found: dict[str, bytes], folder: Path) -> None:
    expected = local_files(folder)
    assert found.keys() == expected.keys()
    assert [
        name for name in found if found[name] != expected[name] and Path(name).name not in TIMED
    ] == []


def test_a_bucket_gets_the_files_of_a_folder(
    store: ObjectStore, scene: Scene, slide_path: Path, tmp_path: Path
) -> None:
    model = model_of(scene, "semantic")
    options = {"probabilities": True, "stains": True, "ring_um": 2.0}
    config = CONFIG.model_copy(
        update={**options, "formats": ("geojson", "csv", "ome-tiff", "ome-zarr-0.4")}
    )
    here = run_slide(slide_path, model, out=tmp_path, config=config)
    calls = model.calls.total()
    there = run_slide(slide_path, model, out=f"s3://{BUCKET}/same/made", config=config)
    assert model.calls.total() == 2 * calls
    check_same(store.objects("same/made"), tmp_path)
    again = sl.load_result(f"s3://{BUCKET}/same/made")
    assert again.record == there.record
    pd.testing.assert_frame_equal(again.objects, here.objects)
    assert again.objects.attrs == here.objects.attrs
    pd.testing.assert_frame_equal(again.counts, here.counts)
    assert again.masks.keys() == here.masks.keys()
    np.testing.assert_array_equal(again.mask.compute(), here.mask.compute())
    np.testing.assert_array_equal(again.probabilities.compute(), here.probabilities.compute())
    run_slide(slide_path, model, out=f"s3://{BUCKET}/same/made", config=config)
    assert model.calls.total() == 2 * calls


def test_requests_do_not_grow_with_tiles(
    store: ObjectStore, scene: Scene, slide_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[int] = Counter()
    system = fsspec.get_filesystem_class("s3")
    call = system._call_s3

    async def counting(self: object, method: str, *words: Any, **options: Any) -> Any:
        asked[tile_px] += 1
        return await call(self, method, *words, **options)

    monkeypatch.setattr(system, "_call_s3", counting)
    for tile_px in (128, 64):
        out = f"s3://{BUCKET}/requests/{tile_px}"
        config = CONFIG.model_copy(update={"region_px": 224 if tile_px == 64 else 192})
        run_slide(slide_path, model_of(scene, tile_px=tile_px), out=out, config=config)
    # Chunks and regions are as many or fewer; there are four times as many tiles.
    assert 0 < asked[64] <= asked[128] < 250


KILLED = f"""
import os, signal, sys
from pathlib import Path
from tests.integration.test_object_storage import CONFIG, MPP, SEED, SIZE, model_of
from slideloom.testing import make_scene
from slideloom.workflows.run import run_slide

class Dying:
    def __init__(self, model):
        self.spec, self.model, self.left = model.spec, model, {KILLED_AFTER}

    def predict(self, batch):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.model.predict(batch)

scene = make_scene(size=SIZE, mpp=MPP, seed=SEED)
run_slide(Path(sys.argv[1]), Dying(model_of(scene)), out=sys.argv[2], config=CONFIG)
"""


def test_another_machine_goes_on_after_kill_9(
    store: ObjectStore, scene: Scene, slide_path: Path, local: Path
) -> None:
    out = f"s3://{BUCKET}/killed/made"
    command = [sys.executable, "-c", KILLED, str(slide_path), out]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ | store.environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    left = store.objects("killed/made")
    regions = [name for name in left if "/region-" in name]
    assert 0 < len(regions) < 9
    assert "result.json" not in left
    with pytest.raises(OutputError, match="holds no finished result"):
        sl.load_result(out)
    model = model_of(scene)
    result = run_slide(slide_path, model, out=out, config=CONFIG)
    # Only the tiles of the region that was cut short come twice.
    assert set(model.calls.values()) == {1}
    assert result.record.qa.tiles - KILLED_AFTER <= len(model.calls)
    assert len(model.calls) < result.record.qa.tiles - KILLED_AFTER + 4
    check_same(store.objects("killed/made"), local)


def test_what_is_missing_or_damaged_is_made_anew(
    store: ObjectStore, scene: Scene, slide_path: Path, local: Path
) -> None:
    model, out = model_of(scene), f"s3://{BUCKET}/damaged/made"
    run_slide(slide_path, model, out=out, config=CONFIG)
    calls = model.calls.total()
    store.delete("damaged/made/objects.geojson")
    run_slide(slide_path, model, out=out, config=CONFIG)
    assert model.calls.total() == calls
    store.delete("damaged/made/counts.csv")
    run_slide(slide_path, model, out=out, config=CONFIG)
    assert model.calls.total() == 2 * calls
    store.put("damaged/made/result.json", b'{"format": 1')
    with pytest.raises(OutputError, match="holds no finished result"):
        sl.load_result(out)
    run_slide(slide_path, model, out=out, config=CONFIG.model_copy(update={"overwrite": True}))
    assert model.calls.total() == 3 * calls
    check_same(store.objects("damaged/made"), local)


@pytest.mark.slow
def test_a_damaged_region_is_told_and_overwritten(
    store: ObjectStore, scene: Scene, slide_path: Path, local: Path
) -> None:
    model, out = model_of(scene), f"s3://{BUCKET}/torn/made"
    key = run_slide(slide_path, model, out=out, config=CONFIG).record.key
    store.delete("torn/made/result.json")
    store.put(f"torn/made/.work/{key}/region-0-0.safetensors", b"half of it")
    with pytest.raises(OutputError, match=r"region-0-0.*is missing or damaged.*--overwrite"):
        run_slide(slide_path, model, out=out, config=CONFIG)
    run_slide(slide_path, model, out=out, config=CONFIG.model_copy(update={"overwrite": True}))
    check_same(store.objects("torn/made"), local)


def test_a_batch_and_its_exports(
    store: ObjectStore,
    scene: Scene,
    slide_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    shutil.copy(slide_path, slides / "a [1].tif")
    (slides / "broken.tif").write_bytes(b"II*\0")
    outs = (tmp_path / "out", parse_folder(f"s3://{BUCKET}/batch"))
    for out in outs:
        entries, model = find_entries([slides]), model_of(scene)
        outcomes = run_batch(entries, model, out=out, config=CONFIG, options=SlideOptions())
        assert [outcome.status for outcome in outcomes] == ["done", "failed"]
    found, expected = store.objects("batch"), local_files(tmp_path / "out")
    # Each says where it is, or when.
    told = {"manifest.csv", "events.jsonl", "traceback.txt", *TIMED}
    assert found.keys() == expected.keys()
    assert [n for n in found if found[n] != expected[n] and Path(n).name not in told] == []
    rows = [line.split(b",")[:3] for line in found["manifest.csv"].splitlines()]
    assert rows == [line.split(b",")[:3] for line in expected["manifest.csv"].splitlines()]
    assert orjson.loads(found["events.jsonl"].splitlines()[-1])["event"] == "run_done"
    for out in outs:
        assert run_command(["export", str(out), "--format", "xlsx,ome-zarr-0.4,geojson"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"s3://{BUCKET}/batch/a [1]/labels-0.4.ome.zarr" in printed
    exported = store.objects("batch/a [1]")
    check_same(exported, tmp_path / "out" / "a [1]")


@pytest.mark.slow
def test_a_folder_that_was_not_uploaded_to_the_end_is_written_again(
    store: ObjectStore, scene: Scene, slide_path: Path
) -> None:
    config = CONFIG.model_copy(update={"formats": ("ome-zarr-0.4",)})
    out = f"s3://{BUCKET}/half/made"
    run_slide(slide_path, model_of(scene), out=out, config=config)
    whole = store.objects("half/made")
    store.put("half/made/.labels-0.4.ome.zarr.part", b"")
    store.delete("half/made/labels-0.4.ome.zarr/.zattrs")
    store.put("half/made/labels-0.4.ome.zarr/old", b"of another result")
    run_slide(slide_path, model_of(scene), out=out, config=config)
    assert store.objects("half/made") == whole


def command(slide: Path, out: str) -> list[str]:
    return ["run", str(slide), "--model", "nuclei", "--out", out, "--no-tissue"]


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("s3://no-such-bucket/out", "there is no 's3://no-such-bucket/out.*make it first"),
        ("s3://", "'s3:.*' names no bucket: give one, as in s3://bucket/results"),
        ("https://server/out", "results cannot be written to or read from 'https://server/out'"),
    ],
)
def test_places_that_are_none(
    store: ObjectStore, slide_path: Path, out: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(command(slide_path, out)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(says, lines[0])


def test_a_key_that_may_not_write(
    store: ObjectStore, slide_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.refusing():
        assert run_command(command(slide_path, f"s3://{BUCKET}/denied")) == 2
    assert re.search(
        r"'s3://lab/denied/\S+' may not be used .*: check your credentials", capsys.readouterr().err
    )
    assert not store.objects("denied")


def test_a_store_that_does_not_answer(
    store: ObjectStore,
    slide_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        assert run_command(command(slide_path, f"s3://{BUCKET}/gone")) == 2
        assert "cannot be reached" in capsys.readouterr().err
        with pytest.raises(OutputError, match="cannot be reached"):
            sl.load_result(f"s3://{BUCKET}/gone")
