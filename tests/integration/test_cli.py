"""The command line as a user meets it: what is printed, what is left, exit codes."""

import subprocess
import sys
from pathlib import Path

import orjson
import pandas as pd
import pytest

from slideloom.testing import validate_geojson
from slideloom.workflows.cli import run_command


def _run(*words: str | Path) -> int:
    return run_command([str(word) for word in words])


def test_a_folder_with_a_broken_slide_finishes_the_others(
    slide_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "good.tif").symlink_to(slide_path)
    (folder / "broken.svs").write_bytes(slide_path.read_bytes()[:50_000])
    (folder / "notes.txt").write_text("not a slide")
    code = _run("run", folder, "--model", "nuclei", "--out", tmp_path / "out")
    assert code == 1
    manifest = pd.read_csv(tmp_path / "out" / "manifest.csv").set_index("slide")
    assert manifest["status"].to_dict() == {
        str(folder / "broken.svs"): "failed",
        str(folder / "good.tif"): "done",
    }
    assert "damaged" in str(manifest["error"].iloc[0])
    counts = pd.read_csv(tmp_path / "out" / "counts.csv")
    geojson = validate_geojson(tmp_path / "out" / "good" / "objects.geojson")
    assert counts["count"].sum() == manifest["nucleus"].sum() == geojson.features > 0
    printed = capsys.readouterr()
    assert "good.tif: " in printed.out
    last = [line for line in printed.err.splitlines() if line.startswith("slideloom: ")]
    assert len(last) == 2
    assert "1 of 2 slides failed" in last[1]
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "none.svs", "--model", "nuclei", "--out", "out"], "no slide or folder 'none.svs'"),
        (["run", "SLIDE", "--model", "nope", "--out", "out"], "no model 'nope'"),
        (["run", "SLIDE", "--model", "FOLDER", "--out", "out"], "model.json"),
        (["run", "SLIDE", "--model", "nuclei", "--out", "SLIDE/out"], "cannot write to"),
        (["run", "SLIDE", "--model", "nuclei", "--out", "out", "--format", "pdf"], "writes pdf"),
        (["run", "SLIDE", "--model", "nuclei", "--out", "out", "--roi", "x.json"], "no ROI file"),
        (["run", "SLIDE", "--model", "nuclei", "--out", "out", "--workers", "0"], "--workers"),
        (["run", "SLIDE", "--model", "nuclei", "--out", "out", "--device", "tpu"], "tpu"),
        (["run", "SLIDE", "--model", "nuclei"], "--out"),
        (["run", "FOLDER", "--model", "nuclei", "--out", "out"], "no slides in"),
        (["info", "none.svs"], "none.svs"),
        (["models", "show", "nope"], "nope"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    slide_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    places = {"SLIDE": str(slide_path), "FOLDER": "folder", "SLIDE/out": f"{slide_path}/out"}
    assert _run(*(places.get(word, word) for word in words)) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("slideloom: ")
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out" / "manifest.csv").exists()


@pytest.mark.parametrize("content", [b"", b"a text file\n"])
def test_what_is_no_slide_is_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = tmp_path / "wrong.svs"
    path.write_bytes(content)
    assert _run("info", path) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert _run("run", path, "--model", "nuclei", "--out", tmp_path / "out") == 1
    manifest = pd.read_csv(tmp_path / "out" / "manifest.csv")
    assert manifest["status"].tolist() == ["failed"]


def test_two_slides_of_one_name_are_refused(
    slide_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.tif").symlink_to(slide_path)
    assert _run("run", tmp_path, "--model", "nuclei", "--out", tmp_path / "out") == 2
    assert "different --out folders" in capsys.readouterr().err


def test_globs_are_slides(slide_path: Path, tmp_path: Path) -> None:
    (tmp_path / "one.tif").symlink_to(slide_path)
    assert _run("run", tmp_path / "o*.tif", "--model", "nuclei", "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "one" / "result.json").exists()


def test_info_prints_json(slide_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("info", slide_path, "--json") == 0
    stated = orjson.loads(capsys.readouterr().out)
    assert stated["mpp_x"] == pytest.approx(0.5)
    assert stated["levels"][0]["width"] == 1150


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "width", "mpp"),
    [
        ("CMU-1-Small-Region.svs", 2220, 0.499),
        ("multiframe_camelyon_challenge_image.dcm", 1152, 28.97),
        ("tcga-cr-7395-01a-01-ts1.svs", 4443, None),
        ("test3-DAPI-2-387.ndpi", 3968, 0.2282),
    ],
)
def test_info_opens_every_real_format(
    data_dir: Path, capsys: pytest.CaptureFixture[str], *, name: str, width: int, mpp: float | None
) -> None:
    assert _run("info", data_dir / "slides" / name, "--json") == 0
    stated = orjson.loads(capsys.readouterr().out)
    assert stated["levels"][0]["width"] == width
    assert stated["mpp_x"] == (mpp if mpp is None else pytest.approx(mpp, rel=1e-3))
    assert _run("info", data_dir / "slides" / name) == 0
    assert str(width) in capsys.readouterr().out


@pytest.mark.realdata
def test_a_real_slide_gives_a_sensible_number_of_nuclei(data_dir: Path, tmp_path: Path) -> None:
    slide = data_dir / "slides" / "CMU-1-Small-Region.svs"
    assert _run("run", slide, "--model", "nuclei", "--out", tmp_path) == 0
    objects = validate_geojson(tmp_path / slide.stem / "objects.geojson")
    # Wide bounds: they catch a network that finds nothing, or takes all texture for nuclei.
    assert 1500 < objects.features < 4500


@pytest.mark.realdata
def test_a_slide_without_mpp_runs_with_the_option(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
    roi = tmp_path / "roi.geojson"
    ring = [[1000, 1000], [1600, 1000], [1600, 1500], [1000, 1500], [1000, 1000]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    roi.write_bytes(orjson.dumps({"type": "Feature", "properties": {}, "geometry": geometry}))
    words: list[str | Path] = [
        "run",
        slide,
        "--model",
        "nuclei",
        "--out",
        tmp_path / "out",
        "--roi",
        roi,
    ]
    assert _run(*words) == 1
    assert "pass --mpp" in capsys.readouterr().err
    assert _run(*words, "--mpp", "0.5") == 0


def test_an_interrupted_command_says_how_to_go_on(
    slide_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("slideloom.workflows.batch.attempt.Attempt.predict", interrupted)
    assert _run("run", slide_path, "--model", "nuclei", "--out", tmp_path) == 130
    assert "the same command again goes on from here" in capsys.readouterr().err
    monkeypatch.setattr("slideloom.workflows.convert.write_ome_tiff", interrupted)
    assert _run("convert", slide_path, tmp_path / "a.ome.tiff") == 130
    assert "the same command again starts anew" in capsys.readouterr().err


def test_models_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("models", "list") == 0
    assert "nuclei" in capsys.readouterr().out
    assert _run("models", "show", "nuclei") == 0
    assert "nuclei" in capsys.readouterr().out


def test_debug_shows_the_traceback_and_nothing_else_does(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slideloom", "info", "none.svs"]
    plain = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    debug = subprocess.run(
        [*command, "--debug"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert plain.returncode == 2
    assert plain.stderr.count("\n") == 1
    assert "SlideNotFoundError" in debug.stderr


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--version") == 0
    assert capsys.readouterr().out[0].isdigit()
