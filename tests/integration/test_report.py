"""The reports of real runs say what their tables and pictures say."""

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import orjson
import pandas as pd
import pytest
import shapely
import zarr
from numpy.typing import NDArray
from PIL import Image

from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows.batch.attempt import Attempt
from slideloom.workflows.batch.entries import find_entries
from slideloom.workflows.batch.outcomes import SlideOutcome
from slideloom.workflows.batch.run import run_batch
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult, read_counts
from slideloom.workflows.run import run_slide
from slideloom.wsi import SlideOptions
from tests.makers.html import Element, read_html

CONFIG = RunConfig(tissue=False, region_px=512, workers=1)


def run_with_rois(slide_path: Path, scene: Scene, folder: Path) -> SlideResult:
    areas = {"tumour": shapely.box(100, 100, 700, 550), "<i>rim": shapely.box(5, 5, 90, 900)}
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": orjson.loads(shapely.to_geojson(area)),
        }
        for name, area in areas.items()
    ]
    folder.mkdir()
    roi = folder / "rois.geojson"
    roi.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
    spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    config = CONFIG.model_copy(update={"roi": roi})
    return run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=folder, config=config)


@pytest.fixture(scope="module")
def result(slide_path: Path, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> SlideResult:
    return run_with_rois(slide_path, scene, tmp_path_factory.mktemp("report") / "rois & more")


@pytest.fixture(scope="module")
def report(result: SlideResult) -> Path:
    return result.folder / "report.html"


def rows_of(page: Element) -> list[tuple[str, float, float]]:
    """ROI, count and area of each row of the counts."""
    rows, roi = [], ""
    for row in page.one("table").all("tr"):
        for head in row.all("th", scope="rowgroup"):
            roi = head.text
        cells = [float(cell.attributes["value"]) for cell in row.all("data")]
        rows += [(roi, cells[0], cells[1])] if cells else []
    return rows


def test_the_page_says_what_the_tables_say(result: SlideResult, report: Path) -> None:
    page = read_html(report.read_text("utf-8"))
    stated = result.counts[["roi", "count", "area_um2"]]
    assert rows_of(page) == list(stated.itertuples(index=False, name=None))
    assert {"tumour", "<i>rim"} == set(stated["roi"])
    assert stated["count"].sum() > 10
    for link in page.all("a"):
        assert (result.folder / link.attributes["href"]).exists()


def test_a_semantic_result_has_a_page(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    spec = perfect_spec(scene, task="semantic", tile_px=256, halo_px=32)
    model = PerfectTileModel(scene, spec=spec)
    result = run_slide(slide_path, model, out=tmp_path / "out", config=CONFIG)
    page = read_html((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert [row[1] for row in rows_of(page)] == result.counts["count"].tolist()
    assert "one connected area of its class" in page.one("main").text


def test_a_result_that_lost_its_page_is_computed_again(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=512, halo_px=32)
    model = PerfectTileModel(scene, spec=spec)
    run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    calls = model.calls.total()
    run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    assert model.calls.total() == calls
    (tmp_path / "report.html").unlink()
    run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    assert (tmp_path / "report.html").exists()


def test_a_run_that_stops_leaves_no_page_of_an_older_one(
    slide_path: Path, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for halo_px in (32, 48):
        spec = perfect_spec(scene, task="instance", tile_px=512, halo_px=halo_px)
        model = PerfectTileModel(scene, spec=spec)
        if halo_px == 48:
            monkeypatch.setattr(model, "predict", None)
            with pytest.raises(TypeError):
                run_slide(slide_path, model, out=tmp_path, config=CONFIG)
        else:
            run_slide(slide_path, model, out=tmp_path, config=CONFIG)
            assert (tmp_path / "report.html").exists()
    assert not (tmp_path / "report.html").exists()


def test_the_command_names_the_page_and_what_to_look_at(
    slide_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("slideloom.workflows.report.quality.HIGH_SEAM_SCORE", -1)
    words = ["run", str(slide_path), "--model", "nuclei", "--out", str(tmp_path)]
    assert run_command(words) == 0
    printed = capsys.readouterr()
    report = tmp_path / slide_path.stem / "report.html"
    (line,) = printed.out.splitlines()
    assert line.endswith(f"; see {report}")
    assert report.exists()
    (concern,) = (line for line in printed.err.splitlines() if line.startswith("slideloom: "))
    assert concern.startswith(f"slideloom: {slide_path}: seam score ")
    assert "is above" in concern


def test_a_cover_map_is_the_masks(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    spec = perfect_spec(scene, task="semantic", tile_px=256, halo_px=32)
    result = run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=tmp_path, config=CONFIG)
    page = read_html((tmp_path / "report.html").read_text("utf-8"))
    maps = page.all("figure", _class="map")
    assert [item.one("h3").text for item in maps] == [item.name for item in spec.classes]
    for number, item in enumerate(maps, start=1):
        stated = item.one("data", data_figure="highest")
        file, level = stated.attributes["data-source"].split("#")
        assert file == "labels.ome.zarr"
        pixels = np.asarray(zarr.open_array(result.folder / file / level, mode="r")[:]) == number
        # 1,150 px of 0.5 um: cells of 10 um go 57 times into it, and have 20 px.
        step = 2 ** int(level.rsplit("/", 1)[1])
        side = 20 // step
        assert item.one("image").attributes["width"] == f"{20.0 * -(-1150 // 20)}"
        cover = [
            [100 * pixels[y : y + side, x : x + side].mean() for x in range(0, 1150 // step, side)]
            for y in range(0, 930 // step, side)
        ]
        assert float(stated.attributes["value"]) == pytest.approx(np.max(cover))
        assert np.array_equal(cells_of(item)[..., 3] > 0, np.array(cover) > 0)


def test_a_heat_map_is_the_probabilities(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    spec = perfect_spec(scene, task="classification", tile_px=256, halo_px=0)
    result = run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=tmp_path, config=CONFIG)
    page = read_html((tmp_path / "report.html").read_text("utf-8"))
    probabilities = result.probabilities.compute()
    maps = page.all("figure", _class="map")
    assert maps
    for item in maps:
        stated = item.one("data", data_figure="highest")
        channel = int(stated.attributes["data-source"].rsplit("/", 1)[1])
        assert item.one("h3").text == spec.classes[channel].name
        assert float(stated.attributes["value"]) == probabilities[channel].max() / 255
        assert np.array_equal(cells_of(item)[..., 3] > 0, probabilities.any(axis=0))
    assert {
        bar.attributes["data-source"] for bar in page.all("rect") if "data-low" in bar.attributes
    } <= {"objects.parquet#score"}


def cells_of(item: Element) -> NDArray[np.uint8]:
    data = b64decode(item.one("image", _class="cells").attributes["href"].split(",", 1)[1])
    with Image.open(BytesIO(data)) as cells:
        return np.asarray(cells)


def run_folder(folder: Path, scene: Scene, slide_path: Path) -> list[SlideOutcome]:
    """One slide under two names, and a file that is none."""
    folder.mkdir(exist_ok=True)
    names = ("one.tif", "bad.tif", "<b>x&y.tif")
    for name in names:
        if name != "bad.tif":
            (folder / name).write_bytes(slide_path.read_bytes())
        else:
            (folder / name).write_bytes(b"II*\0 and no slide")
    spec = perfect_spec(scene, task="instance", tile_px=512, halo_px=32)
    model = PerfectTileModel(scene, spec=spec)
    paths = [folder / name for name in names]
    options = SlideOptions()
    entries = find_entries(paths)
    return run_batch(entries, model, out=folder / "out", config=CONFIG, options=options)


def test_a_run_has_a_page_that_says_what_its_tables_say(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    outcomes = run_folder(tmp_path / "run", scene, slide_path)
    out = tmp_path / "run" / "out"
    text = (out / "report.html").read_text("utf-8")
    page = read_html(text)
    assert str(tmp_path) not in text
    (failed,) = page.one("section", aria_labelledby="failed").all("li")
    assert failed.text.startswith("bad.tif failed slide 'bad.tif' is ")
    manifest = pd.read_csv(out / "manifest.csv")
    counts = read_counts(out)
    rows = [row for row in page.one("table").all("tr") if row.all("td")]
    done = manifest[manifest["status"] == "done"]
    assert len(rows) == len(done) == 2
    for row, (_, stated) in zip(rows, done.iterrows(), strict=True):
        name = Path(str(stated["slide"])).stem
        assert row.one("th").one("bdi").text == name
        for item in ("nucleus", "gland"):
            shown = row.one("data", data_source=f"result.json#counts.{item}")
            assert int(shown.attributes["value"]) == stated[item]
            density = row.one("data", data_of=item).attributes["value"]
            where = (counts["slide"] == name) & (counts["class"] == item)
            assert [float(density)] == counts.loc[where, "density_per_mm2"].tolist()
        for link in row.all("a"):
            assert (out / unquote(link.attributes["href"])).is_file()
        thumbnail = row.one("img").attributes["src"]
        assert len(thumbnail) < 41_000
    assert [outcome.result is None for outcome in outcomes] == [False, True, False]


def test_a_resumed_run_writes_its_page_again(
    slide_path: Path, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder(tmp_path, scene, slide_path)
    page = tmp_path / "out" / "report.html"
    first = page.read_bytes()
    page.unlink()
    run_folder(tmp_path, scene, slide_path)
    assert page.read_bytes() == first

    def interrupted(_: Attempt) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Attempt, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_folder(tmp_path, scene, slide_path)
    # A run that was stopped leaves no page that says it is all.
    assert not page.exists()
