"""The page on a run: every figure is the tables' or the records', whatever names are in it."""

import shutil
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from statistics import median
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from slideloom.errors import OutputError
from slideloom.workflows.report import TriedSlide, render_run_report, write_run_report
from slideloom.workflows.report.strips import make_strip
from slideloom.workflows.result import RunRecord, SlideResult
from tests.makers.html import Element, read_html
from tests.makers.report_folder import CLASSES, HOSTILE, make_counts, make_folder, make_record

NAMES = ("one", "<b>x&y", "c 3%", "four")
PATHS = [Path("/machine/of/mine") / f"{name}.svs" for name in NAMES]


def record_of(number: int, *, name: str, **qa: object) -> RunRecord:
    slide = make_record().slide.model_copy(update={"name": name})
    return make_record(
        slide=slide,
        qa={"seam_score": 0.01 * number, "tissue_percent": 10.0 + number, **qa},
        counts={"gland": 1000 + number, HOSTILE: 7 * number},
        seconds={"predict": 2.5 + number, "merge": 0.25},
    )


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> list[TriedSlide]:
    out = tmp_path_factory.mktemp("run")
    slides = []
    for number, (name, path) in enumerate(zip(NAMES, PATHS, strict=True)):
        rois = ("tumour", HOSTILE) if number == 2 else ("",)
        folder = make_folder(out / name, make_counts(*rois, seed=number))
        qa = {"bad_tiles": 4} if number == 1 else {}
        result = SlideResult(folder=folder, record=record_of(number, name=name, **qa))
        slides.append(TriedSlide(source=path, result=result, error=""))
    error = f"cannot write '{out}/bad/labels': '/machine/of/mine/<i>bad.svs' is <b>no</b> slide"
    bad = Path("/machine/of/mine/<i>bad.svs")
    return [slides[0], TriedSlide(source=bad, result=None, error=error), *slides[1:]]


def results_of(tried: list[TriedSlide]) -> list[SlideResult]:
    return [slide.result for slide in tried if slide.result is not None]


@pytest.fixture(scope="module")
def text(tried: list[TriedSlide]) -> str:
    out = results_of(tried)[0].folder.parent
    return render_run_report(out, tried, model=make_record().model)


@pytest.fixture(scope="module")
def page(text: str) -> Element:
    return read_html(text)


def value(element: Element) -> float:
    return float(element.attributes["value"])


def rows_of(page: Element) -> list[Element]:
    return [row for row in page.one("table").all("tr") if row.all("td")]


def test_every_figure_of_a_row_is_the_slides(page: Element, tried: list[TriedSlide]) -> None:
    rows = rows_of(page)
    for row, result in zip(rows, results_of(tried), strict=True):
        record = result.record
        assert row.one("th").one("bdi").text == record.slide.name
        for field in ("seam_score", "tissue_percent", "bad_tiles"):
            stated = value(row.one("data", data_source=f"result.json#qa.{field}"))
            assert stated == getattr(record.qa, field)
        seconds = row.one("data", data_source="result.json#seconds")
        assert value(seconds) == sum(record.seconds.values())
        for item in CLASSES:
            source = f"result.json#counts.{item.name}"
            assert value(row.one("data", data_source=source)) == record.counts[item.name]
            counts = result.counts
            densities = counts.loc[counts["class"] == item.name, "density_per_mm2"]
            shown = {
                data.attributes["data-figure"]: (value(data), data.text.replace(",", ""))
                for data in row.all("data", data_of=item.name)
            }
            assert shown["lowest"] == (densities.min(), f"{densities.min():.1f}")
            if len(densities) > 1:
                assert shown["highest"] == (densities.max(), f"{densities.max():.1f}")
            assert len(shown) == len(densities)


def test_totals_are_sums(page: Element, tried: list[TriedSlide]) -> None:
    records = [result.record for result in results_of(tried)]
    header = page.one("header")
    for item in CLASSES:
        total = header.one("data", data_source="result.json#counts", data_of=item.name)
        assert value(total) == sum(record.counts[item.name] for record in records)
        assert float(total.text.replace(",", "")) == value(total)
    seconds = header.one("data", data_source="result.json#seconds")
    assert value(seconds) == sum(sum(record.seconds.values()) for record in records)
    status = {
        item.attributes["data-figure"]: value(item)
        for item in header.all("data", data_source="manifest.csv#status")
    }
    assert status == {"done": 4, "failed": 1}
    assert "4 done, of which 1 to check, 1 failed" in header.text


def test_failed_slides_come_first_with_their_reason_and_without_folders(
    page: Element, text: str, tried: list[TriedSlide]
) -> None:
    sections = page.all("section")
    assert sections[0].attributes["aria-labelledby"] == "failed"
    (line,) = sections[0].all("li")
    assert (
        line.text == "<i>bad.svs failed cannot write 'bad/labels': '<i>bad.svs' is <b>no</b> slide"
    )
    assert "/machine/of/mine" not in text
    assert str(results_of(tried)[0].folder.parent) not in text


def test_names_are_text_and_links_lead_to_the_slides(
    page: Element, tried: list[TriedSlide]
) -> None:
    assert page.all("b") == page.all("i") == page.all("script") == []
    for row, result in zip(rows_of(page), results_of(tried), strict=True):
        for link in row.all("a"):
            assert unquote(link.attributes["href"]) == f"{result.folder.name}/report.html"
            assert not set(link.attributes["href"]) & set("<>& ")


def test_what_to_check_stands_with_the_slide(page: Element) -> None:
    states = [row.one("th").all("span", _class="concern") for row in rows_of(page)]
    assert [len(state) for state in states] == [0, 1, 0, 0]
    assert states[1][0].text.startswith("4 damaged tiles were read as blank")


def test_every_dot_is_the_tables(page: Element, tried: list[TriedSlide]) -> None:
    results = results_of(tried)
    strips = {strip.one("h3").text: strip for strip in page.all("figure", _class="strip")}
    expected = {
        "Seam score": [result.record.qa.seam_score for result in results],
        "Tissue, %": [result.record.qa.tissue_percent for result in results],
        "Seconds": [sum(result.record.seconds.values()) for result in results],
    }
    for item in CLASSES:
        expected[f"{item.name}: density, per mm\N{SUPERSCRIPT TWO}"] = [
            density
            for result in results
            for density in result.counts.loc[result.counts["class"] == item.name, "density_per_mm2"]
        ]
    assert strips.keys() == expected.keys()
    for name, values in expected.items():
        dots = strips[name].all("circle")
        assert [float(dot.attributes["data-value"]) for dot in dots] == values
        places = np.array([float(dot.attributes["cx"].strip("%")) for dot in dots])
        assert places.min() >= 0
        assert places.max() <= 100
        assert np.array_equal(np.argsort(places, kind="stable"), np.argsort(values, kind="stable"))
        shown = strips[name].one("data")
        assert value(shown) == median(v for v in values if v is not None)


def test_two_slides_have_no_spread(tried: list[TriedSlide]) -> None:
    out = results_of(tried)[0].folder.parent
    page = read_html(render_run_report(out, tried[:3], model=make_record().model))
    assert len(rows_of(page)) == 2
    assert page.all("figure") == []


def test_a_run_of_failures_has_a_page(tried: list[TriedSlide]) -> None:
    page = read_html(render_run_report(Path("out"), tried[1:2], model=make_record().model))
    assert page.all("table") == []
    assert "0 done, 1 failed" in page.one("header").text


def test_what_is_not_defined_is_a_dash(tried: list[TriedSlide], tmp_path: Path) -> None:
    counts = make_counts("")
    counts["density_per_mm2"] = np.nan
    folder = make_folder(tmp_path / "one", counts)
    (folder / "overlay.png").unlink()
    result = SlideResult(folder=folder, record=record_of(0, name="one", seam_score=None))
    slide = TriedSlide(source=Path("one.svs"), result=result, error="")
    page = read_html(render_run_report(tmp_path, [slide], model=result.record.model))
    (row,) = rows_of(page)
    assert [cell.text for cell in row.all("td")][1] == "\N{EN DASH}"
    assert [item.text[-1] for item in row.all("li")] == ["\N{EN DASH}"] * 2
    assert row.all("img") == []


def test_a_page_of_many_slides_stays_small(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "one", make_counts(""))
    noise = np.random.default_rng(1).integers(0, 255, (1100, 2000, 3), np.uint8)
    Image.fromarray(noise).save(folder / "overlay.png", compress_level=0)
    result = SlideResult(folder=folder, record=record_of(0, name="one"))
    slide = TriedSlide(source=Path("one.svs"), result=result, error="")
    sizes = {}
    for count in (1, 20):
        text = render_run_report(tmp_path, [slide] * count, model=result.record.model)
        pictures = [item.attributes["src"] for item in read_html(text).all("img")]
        assert len(pictures) == count
        data = b64decode(pictures[0].split(",", 1)[1])
        assert len(data) <= 30_000
        with Image.open(BytesIO(data)) as thumbnail:
            assert thumbnail.width > 100
        sizes[count] = len(text)
    # 500 slides, in the worst case: noise is what compresses least.
    assert 500 * (sizes[20] - sizes[1]) / 19 < 30e6


def test_the_page_is_whole_or_absent(tried: list[TriedSlide], tmp_path: Path) -> None:
    out = results_of(tried)[0].folder.parent
    before = set(out.iterdir())
    write_run_report(out, tried, model=make_record().model)
    assert set(out.iterdir()) - before == {out / "report.html"}
    written = (out / "report.html").read_bytes()
    folder = make_folder(tmp_path / "one", make_counts(""))
    result = SlideResult(folder=folder, record=record_of(0, name="one"))
    shutil.rmtree(folder)
    broken = TriedSlide(source=Path("one.svs"), result=result, error="")
    with pytest.raises(OutputError, match="report"):
        write_run_report(tmp_path, [broken], model=make_record().model)
    assert list(tmp_path.iterdir()) == []
    assert (out / "report.html").read_bytes() == written


def test_dots_at_one_place_are_stacked() -> None:
    strip = make_strip([("a", 1.0), ("b", 1.0), ("c", 5.0)], title="t", source="s")
    assert strip is not None
    assert [dot.lift_px for dot in strip.dots] == [0.0, 8.0, 0.0]
    crowd = make_strip([(str(number), 1.0) for number in range(500)], title="t", source="s")
    assert crowd is not None
    assert max(dot.lift_px for dot in crowd.dots) <= 48
    assert make_strip([("a", 1.0), ("b", 2.0), ("c", float("nan"))], title="t", source="s") is None
