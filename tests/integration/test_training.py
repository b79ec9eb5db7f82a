"""From two annotated pictures to a model folder that runs on a slide, for each task."""

import csv
from pathlib import Path

import cv2
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from slideloom.models.catalog import read_card, read_spec
from slideloom.models.folder import load_model
from slideloom.testing import write_slide
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.run import run_slide

SIDE, MPP = 160, 0.5
SETTINGS = """
name: discs
licence: CC0
training_data: drawn discs
image_mpp: 0.5
tile_px: 64
halo_px: 16
encoder: tu-mobilenetv3_small_050
{more}
fit: {{epochs: 2, batch_size: 4, pretrained: false, workers: 0}}
tiles_per_epoch: 16
"""


def _picture(seed: int) -> tuple[NDArray[np.uint8], list[tuple[int, int, int]]]:
    """Dark discs on light ground: `(x, y, radius)` of each."""
    rng = np.random.default_rng(seed)
    rgb = np.full((SIDE, SIDE, 3), 230, np.uint8)
    discs = []
    for y in range(20, SIDE - 10, 40):
        for x in range(20, SIDE - 10, 40):
            radius = int(rng.integers(8, 14))
            cv2.circle(rgb, (x, y), radius, (90, 40, 120), -1)
            discs.append((x, y, radius))
    noise = rng.integers(-12, 12, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8), discs


def _feature(disc: tuple[int, int, int]) -> dict[str, object]:
    x, y, radius = disc
    turn = np.linspace(0, 2 * np.pi, 33)
    ring = np.column_stack([x + 0.5 + radius * np.cos(turn), y + 0.5 + radius * np.sin(turn)])
    ring[-1] = ring[0]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
        "properties": {"objectType": "annotation", "classification": {"name": "disc"}},
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed in range(2):
        rgb, discs = _picture(seed)
        cv2.imwrite(str(folder / f"p{seed}.png"), rgb[..., ::-1])
        features = [_feature(disc) for disc in discs]
        document = {"type": "FeatureCollection", "features": features}
        (folder / f"p{seed}.geojson").write_bytes(orjson.dumps(document))
    return folder


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    write_slide(path, _picture(9)[0], mpp=MPP)
    return path


@pytest.mark.parametrize("task", ["semantic", "detection", "instance"])
def test_two_annotated_pictures_become_a_model_that_runs(
    task: str, data: Path, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "train.yaml"
    config.write_text(SETTINGS.format(more=""), encoding="utf-8")
    out = tmp_path / "model"
    words = ["train", "--task", task, "--data", str(data), "--out", str(out)]
    assert run_command([*words, "--config", str(config)]) == 0
    told = capsys.readouterr()
    assert "epoch 2/2" in told.err
    assert str(out) in told.out
    spec = read_spec(out)
    assert (spec.task, spec.name, spec.mpp) == (task, "discs", MPP)
    assert [item.name for item in spec.classes] == ["disc"]
    assert "p0.png" in read_card(out)
    (figure,) = spec.scores
    assert figure.endswith(", validation tiles")
    assert 0 <= spec.scores[figure] <= 1
    training = out / "training"
    for name in ("config.yaml", "faults.txt", "history.csv", "curves.png", "examples.png"):
        assert (training / name).stat().st_size > 0, name
    with (training / "images.csv").open(encoding="utf-8") as file:
        splits = {row["file"]: row["split"] for row in csv.DictReader(file)}
    assert sorted(splits) == ["p0.png", "p1.png"]
    result = run_slide(
        slide, load_model(out, device="cpu"), out=tmp_path / "run", config=RunConfig(tissue=False)
    )
    assert (result.folder / "report.html").is_file()


def test_pictures_in_folders_become_a_classifier(slide: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(6):
        name = ("dark", "light")[number % 2]
        rgb = np.full((64, 64, 3), (60, 220)[number % 2], np.uint8)
        (data / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(data / name / f"{number}.png"), rgb)
    config = tmp_path / "train.yaml"
    more = "architecture: Timm"
    text = SETTINGS.format(more=more).replace("halo_px: 16", "halo_px: 0")
    config.write_text(text.replace("tu-mobilenetv3", "mobilenetv3"), encoding="utf-8")
    out = tmp_path / "model"
    words = ["train", "--task", "classification", "--data", str(data), "--out", str(out)]
    assert run_command([*words, "--config", str(config)]) == 0
    assert [item.name for item in read_spec(out).classes] == ["dark", "light"]
    result = run_slide(
        slide, load_model(out, device="cpu"), out=tmp_path / "run", config=RunConfig(tissue=False)
    )
    assert set(result.objects["class"]) <= {"dark", "light"}


def test_faults_are_listed_and_the_rest_is_trained_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for path in data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    document = orjson.loads((folder / "p1.geojson").read_bytes())
    document["features"][3]["geometry"]["coordinates"] = [[[0, 0], [1, 1]]]
    (folder / "p1.geojson").write_bytes(orjson.dumps(document))
    (folder / "lonely.png").write_bytes((folder / "p0.png").read_bytes())
    config = tmp_path / "train.yaml"
    config.write_text(SETTINGS.format(more="").replace("epochs: 2", "epochs: 1"), encoding="utf-8")
    out = tmp_path / "model"
    words = ["train", "--task", "semantic", "--data", str(folder), "--out", str(out)]
    assert run_command([*words, "--config", str(config)]) == 0
    told = capsys.readouterr().err
    assert "lonely.png" in told
    assert "p1.geojson" in told
    assert "lonely.png" in (out / "training" / "faults.txt").read_text(encoding="utf-8")


def test_points_do_not_teach_boxes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        name = f"p{number}"
        (folder / f"{name}.png").write_bytes((data / f"{name}.png").read_bytes())
        (folder / f"{name}.csv").write_text("x,y,class\n20,20,disc\n60,60,disc\n", encoding="utf-8")
    config = tmp_path / "train.yaml"
    text = SETTINGS.format(more="architecture: FCOS\ndecode: boxes")
    config.write_text(text.replace("tu-mobilenetv3_small_050", "tu-resnet10t"), encoding="utf-8")
    words = ["train", "--task", "detection", "--data", str(folder), "--out", str(tmp_path / "m")]
    assert run_command([*words, "--config", str(config)]) == 2
    assert "all annotations are points" in capsys.readouterr().err


def test_a_task_that_does_not_exist_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--task", "segmentation", "--data", str(data), "--out", str(tmp_path / "m")]
    assert run_command(words) == 2
    assert "'segmentation'" in capsys.readouterr().err
