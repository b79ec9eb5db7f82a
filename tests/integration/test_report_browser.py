"""The reports as headless Chromium shows and prints them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slideloom.testing import PerfectTileModel, Scene, perfect_spec, write_slide
from slideloom.workflows.batch.entries import find_entries
from slideloom.workflows.batch.run import run_batch
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult, load_result
from slideloom.wsi import SlideOptions
from tests.makers.html import Element, read_html

# A browser takes seconds to start, and each picture is a start.
pytestmark = pytest.mark.slow

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
NAMES = ("one", "<b>x&y", "a name of a slide that goes on and on without an end")
DESK_PX, PHONE_PX = 1280, 390
# Chromium's own window is never narrower than this.
WINDOW_PX = 500
A4_POINTS = (595, 842)
DARK = "--blink-settings=preferredColorScheme=0"


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
        path = page.with_name("shot.png")
        size = f"--window-size={width},2600"
        self.run(page, size, f"--screenshot={path}", *options)
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)

    def print(self, page: Path) -> bytes:
        path = page.with_name("print.pdf")
        self.run(page, f"--print-to-pdf={path}")
        return path.read_bytes()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        reason = f"there is no browser: install one of {', '.join(PROGRAMS)}"
        if os.environ.get("SLIDELOOM_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return Browser(program, tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def run(slide_path: Path, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three slides and a failure; one slide is to be looked at."""
    folder = tmp_path_factory.mktemp("browser")
    paths = [folder / f"{name}.tif" for name in (*NAMES, "bad")]
    for number, path in enumerate(paths[:-1]):
        pixels = np.full((scene.size.height, scene.size.width, 3), 40 * number + 150, np.uint8)
        pixels[::9] = (180, 90, 160)
        write_slide(path, pixels, mpp=0.5)
    (folder / "bad.tif").write_bytes(b"II*\0 and no slide")
    spec = perfect_spec(scene, task="instance", tile_px=512, halo_px=32)
    config = RunConfig(tissue=False, region_px=512, workers=1)
    model, options = PerfectTileModel(scene, spec=spec), SlideOptions(mpp=0.6)
    run_batch(find_entries(paths), model, out=folder / "out", config=config, options=options)
    return folder / "out"


@pytest.fixture(scope="module", params=["slide", "run"])
def page(request: pytest.FixtureRequest, run: Path) -> Path:
    """The two kinds of pages."""
    return run / "report.html" if request.param == "run" else run / NAMES[1] / "report.html"


@pytest.fixture(scope="module")
def results(run: Path) -> list[SlideResult]:
    return [load_result(run / name) for name in NAMES]


def figures(page: Element) -> list[tuple[str, str, str]]:
    """Every figure with where it comes from."""
    found = [(data.attributes["data-source"], data) for data in page.all("data")]
    return [(source, data.attributes["value"], data.text) for source, data in found]


def test_a_browser_reads_every_figure(browser: Browser, page: Path) -> None:
    shown, written = read_html(browser.run(page, "--dump-dom")), read_html(page.read_text("utf-8"))
    assert figures(shown) == figures(written)
    assert len(figures(shown)) > 10
    assert [row.text for row in shown.all("tr")] == [row.text for row in written.all("tr")]
    assert shown.all("b") == []


def test_the_page_says_what_the_tables_say(
    browser: Browser, run: Path, results: list[SlideResult]
) -> None:
    whole = read_html(browser.run(run / "report.html", "--dump-dom")).one("main").text
    assert "3 done, of which 3 to check, 1 failed" in whole
    for result in results:
        one = read_html(browser.run(result.folder / "report.html", "--dump-dom")).one("main").text
        for name, count in result.record.counts.items():
            assert f"{name} {count:,}" in one
            assert f"{name} {count:,}" in whole
        assert result.record.slide.name in whole


def test_a_desk_shows_it_in_the_classes_colours(
    browser: Browser, page: Path, results: list[SlideResult]
) -> None:
    light = browser.photograph(page, DESK_PX)
    assert light.std() > 20
    assert light[2, 2].min() > 240
    for item in results[0].record.model.classes:
        assert (light == item.color).all(axis=2).sum() > 100
    dark = browser.photograph(page, DESK_PX, DARK)
    assert dark[2, 2].max() < 40
    assert dark.std() > 20
    for item in results[0].record.model.classes:
        assert (dark == item.color).all(axis=2).sum() > 100


# Tells whether anything reaches beyond the frame, and what is narrower than its own content.
PHONE = """<!DOCTYPE html><body style="margin:0">
<iframe id="page" src="{page}" style="border:0;width:{width}px;height:2500px"></iframe>
<p id="answer"></p><script>
addEventListener("load", () => {{
  const inner = document.getElementById("page").contentDocument, root = inner.documentElement;
  const beyond = [...inner.querySelectorAll("body *")].filter(
    (item) => item.getBoundingClientRect().right > {width} + 1 && !item.closest("svg, thead"));
  const cut = [...inner.querySelectorAll(".wide")].filter(
    (item) => item.scrollWidth > item.clientWidth);
  const small = [...inner.querySelectorAll("p, td, th, dd, dt, li, figcaption, span")].filter(
    (item) => parseFloat(inner.defaultView.getComputedStyle(item).fontSize) < 11.5);
  document.getElementById("answer").textContent = [root.scrollWidth, root.clientWidth,
    beyond.length, cut.length, small.length].join(" ");
}});
</script></body>"""


def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, page: Path) -> None:
    frame = page.with_name("frame.html")
    frame.write_text(PHONE.format(page=page.as_uri(), width=PHONE_PX), "utf-8")
    size = f"--window-size={WINDOW_PX},2600"
    dom = browser.run(frame, size, "--allow-file-access-from-files", "--dump-dom")
    answer = read_html(dom).one("p", id="answer").text
    assert answer == f"{PHONE_PX} {PHONE_PX} 0 0 0"
    shot = browser.photograph(frame, WINDOW_PX)[:, :PHONE_PX]
    assert shot[:, : PHONE_PX // 2].std() > 10
    assert shot[:, PHONE_PX // 2 :].std() > 10


def test_it_prints_on_a4(browser: Browser, page: Path) -> None:
    data = browser.print(page)
    assert data.startswith(b"%PDF-")
    sides = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", data)
    assert 1 <= len(sides) <= 7
    for width, height in sides:
        # The table of a run is wide: its page lies on its side.
        shape = A4_POINTS if page.parent.name != "out" else A4_POINTS[::-1]
        np.testing.assert_allclose([float(width), float(height)], shape, atol=1)
