"""The table of architectures lists each of them, and what it says was really tried."""

from pathlib import Path

import pytest
from torch import nn

from benchmarks import architectures_run
from benchmarks.architectures import built_by, main, table
from benchmarks.architectures_papers import PAPERS
from benchmarks.architectures_run import NAMES, Tried, spec_of, try_architecture
from slideloom.models.architectures import ARCHITECTURES, CLASSIFIERS, build_network
from slideloom.models.detectors import DETECTORS
from slideloom.models.folder import save_model

UNET = Tried(
    name="Unet",
    task="semantic",
    encoder="tu-resnet10t",
    parameters=8_066_000,
    loss_before=1.384,
    loss_after=0.331,
    cpu_s=14.72,
)


def test_every_architecture_is_tried_and_has_a_paper() -> None:
    assert set(NAMES) == {*ARCHITECTURES, *CLASSIFIERS, *DETECTORS} == set(PAPERS)


def test_table() -> None:
    lines = table([UNET]).splitlines()
    assert len(lines) == 3
    assert lines[2] == (
        "| `Unet` | semantic | `tu-resnet10t` | 8.07 | Ronneberger et al., U-Net: Convolutional "
        "Networks for Biomedical Image Segmentation, MICCAI 2015 | segmentation-models-pytorch | "
        "1.38 → 0.33 | 14.7 |"
    )
    assert {line.count("|") for line in lines} == {9}


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("DeepLabV3", "segmentation-models-pytorch"),
        ("ENet", "slideloom"),
        ("FCOS", "torchvision"),
        ("PlainCNN", "slideloom"),
        ("Timm", "timm"),
    ],
)
def test_whose_code_it_is(name: str, whose: str) -> None:
    assert built_by(name) == whose


def test_one_architecture_from_its_spec_to_a_slide(tmp_path: Path) -> None:
    tried = try_architecture("PlainCNN", tmp_path)
    assert (tried.name, tried.task, tried.encoder) == ("PlainCNN", "classification", "plaincnn")
    network = build_network(spec_of("PlainCNN"))
    assert tried.parameters == sum(value.numel() for value in network.parameters())
    assert 0 < tried.loss_after < tried.loss_before
    assert (tmp_path / "model" / "weights.safetensors").is_file()
    assert (tmp_path / "result" / "report.html").is_file()


def test_a_loss_that_does_not_go_down_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architectures_run, "STEPS", 0)
    with pytest.raises(RuntimeError, match="PlainCNN: the loss went from"):
        try_architecture("PlainCNN", tmp_path)


def test_a_model_that_answers_otherwise_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_another(folder: Path, spec: object, *, module: nn.Module, card: str) -> None:
        del module
        real(folder, spec_of("PlainCNN"), module=build_network(spec_of("PlainCNN")), card=card)

    real = save_model
    monkeypatch.setattr(architectures_run, "save_model", save_another)
    with pytest.raises(RuntimeError, match="answers otherwise"):
        try_architecture("PlainCNN", tmp_path)


@pytest.mark.slow
def test_the_command_writes_the_table_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "table.md"
    monkeypatch.setattr("sys.argv", ["architectures", "--markdown", str(file)])
    main()
    page = file.read_text(encoding="utf-8")
    printed = page[page.index("| architecture") :]
    assert len(printed.splitlines()) == 2 + len(NAMES)
    assert printed in capsys.readouterr().out
