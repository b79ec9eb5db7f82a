from pathlib import Path

import pytest

from slideloom.errors import SettingsError, SlideNotFoundError
from slideloom.workflows.batch.entries import SlideEntry, find_entries
from slideloom.workflows.config import RunConfig
from slideloom.wsi import SlideOptions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "slides"
    for name in ("a.svs", "b.svs", "deep/c.ndpi"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def write_list(path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def fault_of(path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        find_entries([write_list(path, text)])
    return str(caught.value)


def test_folders_files_and_globs_are_as_find_slides_finds_them(folder: Path) -> None:
    (folder / "notes.csv").write_text("not,a,list\n")
    expected = [
        SlideEntry(source=folder / "a.svs", name="a"),
        SlideEntry(source=folder / "b.svs", name="b"),
        SlideEntry(source=folder / "deep" / "c.ndpi", name="c"),
    ]
    assert find_entries([folder]) == expected
    assert find_entries([str(folder / "*.svs"), folder / "deep"]) == expected
    assert find_entries(["s3://bucket/d.ome.zarr"]) == [
        SlideEntry(source="s3://bucket/d.ome.zarr", name="d")
    ]
    with pytest.raises(SlideNotFoundError, match="no slide or folder"):
        find_entries([folder / "gone.svs"])
    assert find_entries([]) == []


def test_a_list_gives_each_slide_what_is_its_own(folder: Path, tmp_path: Path) -> None:
    listed = write_list(
        tmp_path / "list.csv",
        "case,Path , ID,stain,MPP,roi\n"
        'K-1,slides/a.svs,first,"H&E, old",0.25,rois/a.geojson\n'
        "\n"
        f",{tmp_path}/elsewhere/gone.svs,,,,/rois/all.geojson\n"
        " , , ,\n"
        "K-2,https://host.example/e.ome.zarr, fifth ,,1e-1\n",
    )
    assert find_entries([listed]) == [
        SlideEntry(
            source=folder / "a.svs",
            name="first",
            mpp=0.25,
            roi=tmp_path / "rois" / "a.geojson",
            case="K-1",
        ),
        SlideEntry(
            source=tmp_path / "elsewhere" / "gone.svs",
            name="gone",
            roi=Path("/rois/all.geojson"),
        ),
        SlideEntry(source="https://host.example/e.ome.zarr", name="fifth", mpp=0.1, case="K-2"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lists_are_read_as_spreadsheets_write_them(
    tmp_path: Path, delimiter: str, encoding: str, ending: str
) -> None:
    number = '"0.25"' if delimiter == "," else "0,25"
    rows = [("path", "id", "mpp"), ('"a, b; c\td.svs"', "größe", number)]
    text = ending.join(delimiter.join(row) for row in rows) + ending
    listed = write_list(tmp_path / "list.CSV", text, encoding=encoding)
    assert find_entries([listed]) == [
        SlideEntry(source=tmp_path / "a, b; c\td.svs", name="größe", mpp=0.25)
    ]


def test_lists_of_other_tools_are_read(tmp_path: Path) -> None:
    trident = write_list(tmp_path / "trident.csv", "wsi,mpp\na.png,0.5\n")
    cellvit = write_list(tmp_path / "cellvit.csv", "path,slide_mpp,magnification\nb.svs,0.25,40\n")
    assert [(entry.name, entry.mpp) for entry in find_entries([trident, cellvit])] == [
        ("a", 0.5),
        ("b", 0.25),
    ]


def test_lists_and_paths_keep_their_order_and_each_slide_comes_once(
    folder: Path, tmp_path: Path
) -> None:
    listed = write_list(tmp_path / "list.csv", "path\nslides/b.svs\ngone.svs\n")
    found = find_entries([folder / "deep", listed, folder / "b.svs", folder / "a.svs"])
    assert [entry.name for entry in found] == ["c", "b", "gone", "a"]
    assert find_entries([str(tmp_path / "*.csv")]) == find_entries([listed])


def test_all_faults_of_a_list_are_named_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        "path,id,mpp\n"
        "a.svs,one,0.25\n"
        ",two,abc\n"
        'b.svs,"three\nlines",0.5\n'
        "c.svs,four,-1\n"
        "d.svs,five,nan\n"
        "e.svs,six,0.5,more\n"
    )
    found = fault_of(tmp_path / "list.csv", text)
    assert "list.csv' has 4 faults" in found
    assert "line 3: no path and mpp 'abc' is not a number above 0;" in found
    assert "line 6: mpp '-1' is not" in found
    assert "line 7: mpp 'nan' is not" in found
    assert "line 8: 4 fields, and the first line names 3" in found
    many = fault_of(tmp_path / "list.csv", "path,mpp\n" + "a.svs,x\n" * 30)
    assert "has 30 faults" in many
    assert many.endswith("line 21: mpp 'x' is not a number above 0; and 10 more; correct the list")


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ("x/y", "cannot be a folder's name"),
        ("x\\y", "cannot be a folder's name"),
        ('"x\ny"', "cannot be a folder's name"),
        (".", "hidden"),
        ("..", "hidden"),
        (".work", "hidden"),
        ("Manifest.csv", "file of the run itself"),
        ("counts.csv", "file of the run itself"),
        ("report.html", "file of the run itself"),
        ("events.jsonl", "file of the run itself"),
        ("Eins", "'eins' and 'Eins', one folder on macOS and Windows"),
        ("eins", "would both write to 'eins'"),
    ],
)
def test_ids_that_cannot_be_folders_of_their_own(
    tmp_path: Path, identity: str, reason: str
) -> None:
    found = fault_of(tmp_path / "list.csv", f"path,id\na.svs,eins\nb.svs,{identity}\n")
    assert reason in found
    assert "line 3: " in found
    assert "1 fault:" in found


def test_ways_to_write_an_accent_are_one_name(tmp_path: Path) -> None:
    found = fault_of(tmp_path / "list.csv", "path,id\na.svs,caf\u00e9\nb.svs,cafe\u0301\n")
    assert "one folder on macOS and Windows" in found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("slide_id,label\nx,1\n", "has no column 'path': its first line names 'slide_id', 'label'"),
        ("path,id\n\n", "names no slide"),
        ('path\na.svs\n"b.svs\n', "is no CSV from line 3 on"),
    ],
)
def test_what_is_no_list(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in fault_of(tmp_path / "list.csv", text)


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.csv", "path,id\na.svs,größe\n", encoding="cp1252")
    with pytest.raises(SettingsError, match="not UTF-8"):
        find_entries([listed])
    with pytest.raises(SettingsError, match=r"gone.csv' cannot be read \(No such file"):
        find_entries([tmp_path / "gone.csv"])
    with pytest.raises(SettingsError, match=r"download 's3://bucket/list\.csv'"):
        find_entries(["s3://bucket/list.csv"])


def test_slides_of_one_name_are_told_the_way_out(folder: Path, tmp_path: Path) -> None:
    (folder / "deep" / "a.tif").write_bytes(b"x")
    with pytest.raises(SettingsError, match=r"write to 'a': .* columns path and id"):
        find_entries([folder])
    with pytest.raises(SettingsError, match=r"write to 'a': list .* columns path and id"):
        find_entries([folder / "a.svs", write_list(tmp_path / "list.csv", "path\nother/a.svs\n")])
    ids = write_list(tmp_path / "ids.csv", "path,id\nslides/a.svs,a\nslides/deep/a.tif,a2\n")
    assert [entry.name for entry in find_entries([ids])] == ["a", "a2"]


def test_what_a_slide_states_stands_before_what_the_command_states() -> None:
    options, config = SlideOptions(mpp=1.0), RunConfig(roi=Path("all.geojson"), workers=3)
    own = SlideEntry(source=Path("a.svs"), name="a", mpp=0.5, roi=Path("a.geojson"))
    assert own.options(options).mpp == 0.5
    assert own.config(config) == RunConfig(roi=Path("a.geojson"), workers=3)
    plain = SlideEntry(source=Path("a.svs"), name="a")
    assert plain.options(options) == options
    assert plain.config(config) == config
