"""The report: every figure is the record's or the counts table's, whatever names are in it."""

import re
from base64 import b64decode
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slideloom.errors import OutputError
from slideloom.workflows.config import RunConfig
from slideloom.workflows.report import concerns, quality_figures, render_report, write_report
from slideloom.workflows.report.numbers import fixed, size_text
from slideloom.workflows.report.picture import embed_jpeg, read_picture
from slideloom.workflows.result import RunRecord
from slideloom.wsi import SlideOptions
from slideloom.wsi.display import Display, ValueRange
from tests.makers.html import Element, read_html
from tests.makers.report_folder import HOSTILE, make_counts, make_folder, make_record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path, make_counts(""))


def page_of(folder: Path, record: RunRecord) -> Element:
    return read_html(render_report(folder, record))


def figures_of(page: Element) -> dict[str, Element]:
    """The figures from the record, by their place in it."""
    sources = [(item.attributes["data-source"], item) for item in page.all("data")]
    return {source: item for source, item in sources if "." in source and "#" not in source}


def facts_of(page: Element) -> dict[str, str]:
    """Terms and what is said of them."""
    pairs = [(item.all("dt"), item.all("dd")) for item in page.all("div")]
    return {terms[0].text: said[0].text for terms, said in pairs if terms}


def number(text: str) -> float:
    """The first number of a text, thousands commas left out."""
    found = re.search(r"[\d,.]+", text)
    assert found is not None
    return float(found[0].replace(",", ""))


def test_every_figure_is_the_records(folder: Path) -> None:
    record = make_record()
    shown = figures_of(page_of(folder, record))
    stated = record.model_dump(include={"qa", "counts", "seconds"})
    flat = {f"{group}.{name}": v for group, part in stated.items() for name, v in part.items()}
    # `qa.tiles` stands in the text of `qa.tiles_predicted`.
    del flat["qa.tiles"]
    assert {source: float(item.attributes["value"]) for source, item in shown.items()} == flat
    for source, item in shown.items():
        assert number(item.text) == pytest.approx(flat[source], rel=0.03, abs=0.05), source
    assert shown["qa.tiles_predicted"].text == "1,234 of 1,400"
    assert shown["qa.seam_score"].text == "0.012"
    assert shown["qa.recombined"].text == "17 (0.1 % of objects)"


@pytest.mark.parametrize("rois", [("",), ("tumour", "tumour", HOSTILE)])
def test_every_count_is_the_tables(tmp_path: Path, rois: tuple[str, ...]) -> None:
    counts = make_counts(*rois)
    table = page_of(make_folder(tmp_path, counts), make_record()).one("table")
    columns = ["count", "area_um2", "area_percent", "density_per_mm2"]
    rows = [row for row in table.all("tr") if row.all("td")]
    assert [row.one("th").text for row in rows] == counts["class"].tolist()
    for row, (_, stated) in zip(rows, counts.iterrows(), strict=True):
        cells = row.all("data")
        assert [cell.attributes["data-source"] for cell in cells] == columns
        assert [float(cell.attributes["value"]) for cell in cells] == stated[columns].tolist()
        shown = [number(cell.text) for cell in cells]
        np.testing.assert_allclose(shown, stated[columns].to_numpy(float), rtol=1e-4, atol=0.5)
    heads = [head.text for head in table.all("th", scope="rowgroup")]
    assert heads == [roi for roi in rois if roi]


def test_what_is_not_defined_is_a_dash(tmp_path: Path) -> None:
    counts = make_counts("")
    counts[["area_percent", "density_per_mm2"]] = np.nan
    page = page_of(make_folder(tmp_path, counts), make_record(peak_memory_mb=float("nan")))
    for source in ("area_percent", "density_per_mm2", "peak_memory_mb"):
        for item in page.all("data", data_source=source):
            assert (item.text, item.attributes["value"]) == ("\N{EN DASH}", "")


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    page = page_of(make_folder(tmp_path, make_counts(HOSTILE)), make_record())
    assert page.one("h1").text == HOSTILE
    assert HOSTILE in page.one("title").text
    assert HOSTILE in page.one("img").attributes["alt"]
    assert page.all("b") == []
    facts = facts_of(page)
    assert facts["Path"] == f"/slides/{HOSTILE}.svs"
    assert facts["Licence"] == "CC BY-NC 4.0 <not> for sale"
    assert facts["Training data"] == "made & drawn"


def test_the_provenance_is_the_records(folder: Path) -> None:
    record = make_record()
    facts = facts_of(page_of(folder, record))
    assert facts["Fingerprint"] == record.slide.fingerprint
    assert facts["Size"] == "22,000 \N{MULTIPLICATION SIGN} 12,000 px"
    assert facts["Resolution"] == "0.25 \N{MICRO SIGN}m/px"
    assert facts["Reader"] == "tiff"
    assert facts["Task"] == "instance"
    assert facts["Held-out scores"] == "PQ held out 0.7123"
    assert "gland rgb 200 30 30" in facts["Classes"]
    assert facts["torch"] == "2.6.0+cpu"
    assert facts["Result key"] == record.key
    assert facts["Peak memory"] == "1,545 MB"
    settings = record.settings.model_dump()
    assert settings.keys() <= facts.keys()
    assert facts["formats"] == "geojson, csv"
    assert (facts["tissue"], facts["overwrite"], facts["roi"]) == ("yes", "no", "none")
    assert facts["workers"] == "3"


def test_how_the_slide_was_opened_is_told(folder: Path) -> None:
    assert facts_of(page_of(folder, make_record()))["Damaged tiles"] == "stop the run"
    display = Display(channels=("DAPI", 2, 3), ranges=(ValueRange(low=0, high=4095),))
    options = SlideOptions(mpp=0.25, display=display, on_bad_tile="blank")
    slide = make_record().slide.model_copy(update={"options": options})
    facts = facts_of(page_of(folder, make_record(slide=slide)))
    assert facts["Resolution"] == "0.25 \N{MICRO SIGN}m/px, as given with --mpp"
    assert facts["Channels shown"] == "DAPI, 2, 3"
    assert facts["Values shown"] == "0 to 4095"
    assert facts["Damaged tiles"] == "are read as blank"


def test_files_are_linked_that_are_there_and_belong_to_this_result(folder: Path) -> None:
    page = page_of(folder, make_record())
    (files,) = page.all("ul", _class="files")
    names = [link.attributes["href"] for link in files.all("a")]
    # objects.geojson.gz lies there too, from a run with other formats; objects.csv does not.
    assert names == [
        "overlay.png",
        "counts.csv",
        "objects.geojson",
        "objects.parquet",
        "result.json",
    ]


def test_each_part_of_a_split_file_is_linked_and_what_is_made_after_the_page(folder: Path) -> None:
    (folder / "objects.2.geojson").touch()
    settings = RunConfig(formats=("geojson", "xlsx"), split_mb=1)
    (files,) = page_of(folder, make_record(settings=settings)).all("ul", _class="files")
    names = [link.attributes["href"] for link in files.all("a")]
    assert names[2:] == [
        "objects.geojson",
        "objects.2.geojson",
        "objects.parquet",
        "objects.xlsx",
        "result.json",
    ]


def test_the_page_needs_nothing_else(folder: Path) -> None:
    page = page_of(folder, make_record())
    assert page.all("script") == page.all("link") == []
    for element in page.everything():
        assert not any(name.startswith("on") for name in element.attributes)
        assert element.attributes.get("src", "data:").startswith("data:")
        href = element.attributes.get("href", "")
        assert ":" not in href or (element.tag == "image" and href.startswith("data:image/"))
    assert "url(" not in page.one("style").text
    assert "@import" not in page.one("style").text


def test_the_page_can_be_heard(folder: Path) -> None:
    page = page_of(folder, make_record(qa={"bad_tiles": 2}))
    assert page.one("html").attributes["lang"] == "en"
    levels = [int(item.tag[1]) for item in page.everything() if re.fullmatch("h[1-6]", item.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all("scope" in head.attributes for head in page.all("th"))
    ids = [item.attributes["id"] for item in page.everything() if "id" in item.attributes]
    assert len(set(ids)) == len(ids)
    named = {item.attributes.get("aria-labelledby") for item in page.all("section")}
    # The rest are parts of drawings.
    assert named == set(ids) - {"under", "ramp"}


def test_concerns_are_said_first_and_only_where_there_are_some(folder: Path) -> None:
    assert concerns(make_record()) == ()
    assert page_of(folder, make_record()).all("section", _class="check") == []
    slide = make_record().slide.model_copy(update={"mpp": 0.9})
    qa = {"seam_score": 0.2512, "bad_tiles": 4, "tiles_predicted": 0}
    record = make_record(qa=qa, slide=slide)
    said = concerns(record)
    assert [sentence.split(" ")[0] for sentence in said] == ["seam", "no", "4", "the"]
    (box,) = page_of(folder, record).all("section", _class="check")
    assert [item.text.lower() for item in box.all("li")] == [f"{item.lower()}." for item in said]


@pytest.mark.parametrize("score", [None, 0.0, 0.25])
def test_a_seam_score_that_needs_no_look(score: float | None) -> None:
    record = make_record(qa={"seam_score": score})
    assert concerns(record) == ()
    figure = quality_figures(record)[0]
    assert figure.value == score
    assert figure.text == ("no borders to compare" if score is None else f"{score:.3f}")


def test_a_slide_without_objects(folder: Path) -> None:
    record = make_record(qa={"recombined": 0, "conflicts": 1}, counts={"gland": 0, HOSTILE: 0})
    figures = {item.source: item.text for item in quality_figures(record)}
    assert figures["qa.recombined"] == "0"
    assert figures["qa.conflicts"] == "1"


def test_what_percentages_refer_to(folder: Path) -> None:
    for settings, area in (
        (RunConfig(), "the tissue."),
        (RunConfig(tissue=False), "the whole slide."),
        (RunConfig(roi=Path("rois.geojson")), "the ROI."),
    ):
        page = page_of(folder, make_record(settings=settings))
        assert f"Percent and density refer to {area}" in page.all("p", _class="note")[0].text


def test_the_page_is_whole_or_absent(folder: Path) -> None:
    (folder / "overlay.png").unlink()
    before = set(folder.iterdir())
    with pytest.raises(OutputError, match=r"report\.html"):
        write_report(folder, make_record())
    assert set(folder.iterdir()) == before


def test_names_that_are_no_text_do_not_stop_the_page(folder: Path) -> None:
    slide = make_record().slide.model_copy(update={"name": "caf\udce9"})
    write_report(folder, make_record(slide=slide))
    assert read_html((folder / "report.html").read_text("utf-8")).one("h1").text == "caf?"


def test_a_large_picture_is_made_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (3000, 1000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png", compress_level=0)
    picture = embed_jpeg(read_picture(tmp_path / "noise.png"))
    assert (picture.width, picture.height) == (533, 1600)
    assert len(picture.url) < 1_100_000
    with Image.open(BytesIO(b64decode(picture.url.split(",", 1)[1]))) as embedded:
        assert embedded.size == (picture.width, picture.height)


def test_a_small_picture_keeps_its_size_and_colours(folder: Path) -> None:
    picture = embed_jpeg(read_picture(folder / "overlay.png"))
    assert (picture.width, picture.height) == (300, 200)
    with Image.open(BytesIO(b64decode(picture.url.split(",", 1)[1]))) as embedded:
        np.testing.assert_allclose(np.asarray(embedded)[100, 150], (180, 90, 150), atol=3)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0.0, 2, "0.00"),
        (0.004, 2, "< 0.01"),
        (0.006, 2, "0.01"),
        (0.3, 0, "< 1"),
        (1_234_567.8, 0, "1,234,568"),
        (float("nan"), 1, "\N{EN DASH}"),
    ],
)
def test_numbers(value: float, decimals: int, text: str) -> None:
    assert fixed(value, decimals) == text


def test_sizes() -> None:
    assert size_text(11_084.2, 1480.0).replace("\N{MULTIPLICATION SIGN}", "x") == "11.08 x 1.48 mm"
    assert size_text(310.2, 1480.0).startswith("310 \N{MULTIPLICATION SIGN} 1,480 ")
