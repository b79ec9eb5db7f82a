"""A workbook holds the tables of its result as a spreadsheet should, and nothing else."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import openpyxl
import pandas as pd
import pytest
from openpyxl.utils.escape import unescape

from slideloom.errors import OutputError
from slideloom.workflows.export import xlsx
from slideloom.workflows.export.tables import write_csv
from slideloom.workflows.export.xlsx import write_xlsx
from slideloom.workflows.result import COUNTS_FILE, OBJECTS_FILE, RECORD_FILE, SlideResult
from tests.makers.finished_result import finished_result, squares

# Whatever a spreadsheet likes to take for something else.
TRICKY = ("=1+1", "https://example.org/a", "@SUM(A1)", "0012", "1e5", "TRUE", "NA", "<r>x</r>")


def counts_of(*rois: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "slide": "made",
            "roi": list(rois),
            "class": "tumour",
            "count": np.arange(len(rois)) + 1500,
            "area_um2": np.linspace(0.5, 4321.125, len(rois)),
            "area_percent": np.where(np.arange(len(rois)) == 0, np.nan, 12.5),
            "density_per_mm2": np.where(np.arange(len(rois)) == 0, np.nan, 7.0),
        }
    )


def made_result(
    folder: Path, *parts: gpd.GeoDataFrame, rois: tuple[str, ...] = ("",)
) -> SlideResult:
    result = finished_result(folder, *parts)
    write_csv(folder / COUNTS_FILE, counts_of(*rois))
    return result


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SlideResult:
    folder = tmp_path_factory.mktemp("xlsx") / "made"
    return made_result(folder, squares(700), squares(500, first=700), rois=("", *TRICKY))


@pytest.fixture(scope="module")
def book(result: SlideResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "objects.xlsx"
    write_xlsx(result, path)
    assert [item.name for item in path.parent.iterdir()] == ["objects.xlsx"]
    return path


def read_sheet(book: Path, name: str) -> pd.DataFrame:
    return pd.read_excel(book, sheet_name=name, keep_default_na=False, na_values=[""])


def test_objects_are_those_of_the_table(result: SlideResult, book: Path) -> None:
    found = read_sheet(book, "objects")
    truth = pd.DataFrame(result.objects.drop(columns="geometry"))
    assert len(found) == result.record.counts["tumour"] + result.record.counts["stroma"] == 1200
    assert found["area_um2"].sum() == truth["area_um2"].sum()
    assert found["nearest_um"].isna().sum() == truth["nearest_um"].isna().sum() == 400
    pd.testing.assert_frame_equal(found, truth, check_dtype=False, rtol=1e-15)
    assert found["at_roi_border"].dtype == bool


def test_counts_are_those_of_the_table(result: SlideResult, book: Path) -> None:
    found = read_sheet(book, "counts")
    # Nothing for the whole slide, and a space ahead of what would be marks of the file.
    truth = result.counts.assign(roi=[np.nan, *TRICKY[:-1], f" {TRICKY[-1]}"])
    pd.testing.assert_frame_equal(found, truth, check_dtype=False, rtol=1e-15)


def test_texts_stay_texts(book: Path) -> None:
    sheet = openpyxl.load_workbook(book)["counts"]
    cells = [row[1] for row in sheet.iter_rows(min_row=3)]
    assert [cell.value.strip() for cell in cells] == list(TRICKY)
    assert {cell.data_type for cell in cells} == {"s"}
    assert not any(cell.hyperlink for cell in cells)
    objects = openpyxl.load_workbook(book)["objects"]
    kinds = {cell.value: objects.cell(2, cell.column).data_type for cell in objects[1]}
    assert kinds["id"] == kinds["class"] == "s"
    assert kinds["at_roi_border"] == "b"
    assert kinds["score"] == kinds["area_um2"] == "n"


def test_a_missing_or_endless_number_is_an_empty_cell(tmp_path: Path) -> None:
    part = squares(4).assign(nearest_um=[np.inf, -np.inf, np.nan, 2.5])
    part.loc[1, "class"] = None
    write_xlsx(made_result(tmp_path / "made", part), tmp_path / "a.xlsx")
    rows = list(openpyxl.load_workbook(tmp_path / "a.xlsx")["objects"].values)
    assert [row[rows[0].index("nearest_um")] for row in rows[1:]] == [None, None, None, 2.5]
    assert [row[rows[0].index("class")] for row in rows[1:]][:2] == ["tumour", None]


def test_headers_stay_in_sight_and_filter(book: Path) -> None:
    for sheet in openpyxl.load_workbook(book):
        assert all(cell.font.bold for cell in sheet[1])
        assert not any(cell.font.bold for cell in sheet[2])
        assert sheet.freeze_panes == "A2"
        if sheet.title != "about":
            assert sheet.auto_filter.ref == sheet.dimensions


def test_columns_are_wide_enough_and_numbers_short(book: Path) -> None:
    sheet: Any = openpyxl.load_workbook(book)["objects"]
    widths = {cell.value: sheet.column_dimensions[cell.column_letter].width for cell in sheet[1]}
    assert 36 < widths["id"] < 45
    assert all(width > len(name) + 2 for name, width in widths.items())
    formats = {cell.value: sheet.cell(2, cell.column).number_format for cell in sheet[1]}
    assert formats["area_um2"] == "0.00"
    assert formats["score"] == "0.000"
    assert formats["id"] == formats["at_roi_border"] == "General"
    counts = openpyxl.load_workbook(book)["counts"]
    assert [cell.number_format for cell in counts[3]][3:] == ["0", "0.00", "0.00", "0.0"]


def test_about_tells_what_the_result_is_of(result: SlideResult, book: Path) -> None:
    sheet = openpyxl.load_workbook(book)["about"]
    told = dict(sheet.iter_rows(min_row=2, max_col=2, values_only=True))
    record = result.record
    assert told["slide.name"] == "made"
    assert told["slide.mpp"] == 0.5
    assert told["model.name"] == "made"
    for name, value in record.qa.model_dump().items():
        assert told[f"qa.{name}"] == value
    written = datetime.fromtimestamp((result.folder / OBJECTS_FILE).stat().st_mtime, UTC)
    assert told["objects written (UTC)"] == f"{written:%Y-%m-%d %H:%M:%S}"
    assert told["columns that end in _um2"] == "square micrometres"


def test_the_same_result_gives_the_same_bytes(
    result: SlideResult, book: Path, tmp_path: Path
) -> None:
    write_xlsx(result, tmp_path / "again.xlsx")
    assert (tmp_path / "again.xlsx").read_bytes() == book.read_bytes()


def test_full_sheets_go_on_in_others(
    result: SlideResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlsx, "_ROWS_PER_SHEET", 401)
    write_xlsx(result, tmp_path / "a.xlsx")
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    names = ["objects", "objects 2", "objects 3"]
    assert book.sheetnames == ["counts", *names, "about"]
    assert [book[name].max_row for name in names] == [401, 401, 401]
    assert {book[name].auto_filter.ref for name in names} == {"A1:F401"}
    assert all(book[name].freeze_panes == "A2" for name in names)
    parts = [read_sheet(tmp_path / "a.xlsx", name) for name in names]
    found = pd.concat(parts, ignore_index=True)
    assert found["id"].tolist() == result.objects["id"].tolist()


def test_without_objects_there_are_headers(tmp_path: Path) -> None:
    write_xlsx(made_result(tmp_path / "made", squares(0)), tmp_path / "a.xlsx")
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx")["objects"]
    assert [cell.value for cell in sheet[1]] == list(squares(0).drop(columns="geometry"))
    assert sheet.max_row == 1


def test_what_xml_cannot_hold_comes_back(tmp_path: Path) -> None:
    result = made_result(tmp_path / "made", squares(1))
    result.counts["class"] = 'a\x01b <&> "_x0041_"\n '
    write_xlsx(result, tmp_path / "a.xlsx")
    found = openpyxl.load_workbook(tmp_path / "a.xlsx")["counts"]["C2"].value
    # As Excel undoes them; openpyxl leaves it to its users.
    assert unescape(found) == 'a\x01b <&> "_x0041_"\n '


def test_a_failure_leaves_what_was_there(result: SlideResult, tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    path.write_text("old")
    broken = made_result(tmp_path / "made", squares(3))
    (broken.folder / OBJECTS_FILE).write_bytes(b"PAR1 no more")
    (broken.folder / RECORD_FILE).unlink()
    with pytest.raises(OutputError, match=r"objects\.parquet"):
        write_xlsx(broken, path)
    assert path.read_text() == "old"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.xlsx", "made"]


def test_a_full_disk_is_told(
    result: SlideResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xlsxwriter.workbook.ZipFile", full)
    with pytest.raises(OutputError, match="No space left"):
        write_xlsx(result, tmp_path / "a.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_rubbish_of_a_killed_try_is_cleared(result: SlideResult, tmp_path: Path) -> None:
    scratch = tmp_path / ".a.xlsx.sheets"
    scratch.mkdir()
    (scratch / "sheet").write_text("half")
    write_xlsx(result, tmp_path / "a.xlsx")
    assert [item.name for item in tmp_path.iterdir()] == ["a.xlsx"]
