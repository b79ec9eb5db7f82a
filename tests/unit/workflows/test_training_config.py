from pathlib import Path

import pytest

from slideloom.errors import SettingsError
from slideloom.models.architectures import build_network
from slideloom.models.spec import ModelClass, Task
from slideloom.workflows.training.config import (
    PALETTE,
    TrainConfig,
    classes_of_names,
    draft_spec,
    read_config,
)
from tests.makers.training_images import write_text

EXAMPLES = sorted((Path(__file__).parents[3] / "benchmarks" / "examples").glob("*.yaml"))
NUCLEUS = ModelClass(name="nucleus", color=(1, 2, 3))


def read(tmp_path: Path, text: str) -> TrainConfig:
    return read_config(write_text(tmp_path / "train.yaml", text))


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n") == TrainConfig()


def test_classes_may_be_names_and_take_colours_of_the_palette(tmp_path: Path) -> None:
    config = read(tmp_path, "classes: [a, {name: b, color: [1, 2, 3]}, {name: c}]")
    assert config.classes == (
        ModelClass(name="a", color=PALETTE[0]),
        ModelClass(name="b", color=(1, 2, 3)),
        ModelClass(name="c", color=PALETTE[2]),
    )


def test_colours_repeat_where_there_are_more_classes_than_colours() -> None:
    classes = classes_of_names([f"c{k}" for k in range(len(PALETTE) + 1)])
    assert classes[-1].color == PALETTE[0]


def test_one_glob_is_as_good_as_a_list(tmp_path: Path) -> None:
    assert read(tmp_path, "data: {images: '*.svs'}").data.images == ("*.svs",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {image: x}", "data.image:"),
        ("classes: [a, a]", "must differ"),
        ("classes: []", "classes"),
        ("classes: tumour", "classes"),
        ("mpp: 0", "mpp"),
        ("tiles_per_epoch: 0", "at least one tile"),
        ("tiles_per_epoch: many", "tiles_per_epoch"),
        ("data: {case: '[a-z'}", "no regular expression"),
        ("data: {case: '[a-z]+'}", "has no group"),
        ("data: {annotations: '{stern}.xml'}", "{stem}"),
        ("fit: {epochs: 0}", "fit.epochs"),
        ("annotations: {treshold: 1}", "annotations.treshold"),
        ("a: [", "is not YAML"),
        ("- 1", "the whole"),
    ],
)
def test_what_cannot_be_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "train.yaml" in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml' cannot be read"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_read(path: Path) -> None:
    assert read_config(path).name == path.stem


def test_there_is_an_example_of_each_application() -> None:
    names = {"glands", "overlapping", "colon", "blood_cells", "nuclei_centres", "nuclei"}
    assert {path.stem for path in EXAMPLES} >= names


@pytest.mark.parametrize("task", ["semantic", "classification", "detection", "instance"])
def test_every_task_has_defaults_that_make_a_spec(task: Task) -> None:
    spec = draft_spec(TrainConfig(), task, classes=[NUCLEUS], mpp=0.4)
    assert spec.task == task
    assert spec.mpp == 0.4
    assert (spec.decode is not None) == (task in ("detection", "instance"))


def test_a_spec_takes_what_the_config_says() -> None:
    config = TrainConfig(
        tile_px=128, halo_px=0, architecture="FPN", encoder="resnet34", overlapping=True
    )
    spec = draft_spec(config, "semantic", classes=[NUCLEUS], mpp=0.5)
    assert spec.architecture is not None
    assert (spec.architecture.name, spec.architecture.encoder) == ("FPN", "resnet34")
    assert (spec.tile_px, spec.halo_px, spec.overlapping) == (128, 0, True)


def test_settings_that_make_no_model_are_said() -> None:
    with pytest.raises(SettingsError, match="leaves no core"):
        draft_spec(TrainConfig(tile_px=64, halo_px=32), "semantic", classes=[NUCLEUS], mpp=0.5)


@pytest.mark.parametrize(
    ("task", "architecture", "encoder", "decode"),
    [
        ("semantic", "ENet", "enet", None),
        ("semantic", "FPN", "tu-regnetx_004", None),
        ("classification", "PlainCNN", "plaincnn", None),
        ("detection", "FCOS", "tu-regnetx_004", "boxes"),
        ("instance", "MaskRCNN", "tu-regnetx_004", "labels"),
    ],
)
def test_an_architecture_alone_is_enough(
    task: Task, architecture: str, encoder: str, decode: str | None
) -> None:
    spec = draft_spec(
        TrainConfig(architecture=architecture), task, classes=classes_of_names(["a"]), mpp=0.5
    )
    assert spec.architecture is not None
    assert (spec.architecture.encoder, spec.architecture.arguments) == (encoder, {})
    assert (None if spec.decode is None else spec.decode.name) == decode
    assert sum(weight.numel() for weight in build_network(spec).parameters()) > 0
