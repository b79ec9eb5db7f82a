"""The report of real runs: what it says, and how a browser shows it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import orjson
import pytest
import shapely
from numpy.typing import NDArray
from PIL import Image

from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from tests.makers.html import Element, read_html

CONFIG = RunConfig(tissue=False, region_px=512, workers=1)
PHONE_PX = 360
# Chromium's window is at least this wide.
WINDOW_PX = 500


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
    assert printed.err.startswith(f"slideloom: {slide_path}: seam score ")
    assert "is above" in printed.err
    assert printed.err.count("\n") == 1


class Browser:
    """Headless Chromium with a new profile."""

    def __init__(self, program: str, profile: Path) -> None:
        self._command = [
            program,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--hide-scrollbars", f"--user-data-dir={profile}"),
        ]

    def run(self, page: Path, *options: str) -> str:
        command = [*self._command, *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    def photograph(self, page: Path, width: int, *options: str) -> NDArray[np.uint8]:
        path = page.parent / "shot.png"
        size = f"--window-size={width},1600"
        self.run(page, size, f"--screenshot={path}", *options)
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium")
    return Browser(program, tmp_path_factory.mktemp("profile"))


def test_a_browser_shows_the_page(browser: Browser, report: Path) -> None:
    page = read_html(browser.run(report, "--dump-dom"))
    assert rows_of(page) == rows_of(read_html(report.read_text("utf-8")))
    light = browser.photograph(report, 1280)
    assert light.std() > 20
    assert light[2, 2].min() > 240
    # 0 asks for dark.
    dark = browser.photograph(report, 1280, "--blink-settings=preferredColorScheme=0")
    assert dark[2, 2].max() < 40
    assert dark.std() > 20


# Asks the page in the frame whether anything is wider than the frame.
PHONE = """<!DOCTYPE html><body style="margin:0">
<iframe id="page" src="{page}" style="border:0;width:{width}px;height:1500px"></iframe>
<p id="answer"></p><script>
addEventListener("load", () => {{
  const inner = document.getElementById("page").contentDocument;
  const table = inner.querySelector(".wide");
  document.getElementById("answer").textContent =
    [inner.documentElement.scrollWidth, inner.documentElement.clientWidth,
     table.scrollWidth - table.clientWidth].join(" ");
}});
</script></body>"""


def test_a_phone_shows_the_page_without_scrolling_sideways(browser: Browser, report: Path) -> None:
    frame = report.with_name("frame.html")
    frame.write_text(PHONE.format(page=report.as_uri(), width=PHONE_PX), "utf-8")
    size = f"--window-size={WINDOW_PX},1600"
    dom = browser.run(frame, size, "--allow-file-access-from-files", "--dump-dom")
    answer = read_html(dom).one("p", id="answer").text
    assert answer == f"{PHONE_PX} {PHONE_PX} 0"
    shot = browser.photograph(frame, WINDOW_PX)[:, :PHONE_PX]
    assert shot[:, : PHONE_PX // 2].std() > 10
    assert shot[:, PHONE_PX // 2 :].std() > 10


def test_the_page_prints(browser: Browser, report: Path) -> None:
    path = report.with_name("print.pdf")
    browser.run(report, f"--print-to-pdf={path}")
    data = path.read_bytes()
    assert data.startswith(b"%PDF-")
    assert 2 <= data.count(b"/Type /Page\n") + data.count(b"/Type/Page ") <= 6
