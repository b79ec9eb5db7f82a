from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.architectures import build_network
from slideloom.models.spec import Architecture, ModelSpec
from slideloom.models.training import pretrained
from slideloom.models.training.pretrained import (
    freeze_encoder,
    load_encoder_weights,
    load_pretrained,
)


def with_architecture(spec: ModelSpec, name: str, encoder: str) -> ModelSpec:
    return spec.model_copy(update={"architecture": Architecture(name=name, encoder=encoder)})


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        msg = "name or service not known"
        raise OSError(msg)

    monkeypatch.setattr(pretrained, "urlopen", refuse)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> nn.Module:
        msg = "We cannot find the requested files in the local cache.\nCheck your connection."
        raise LocalEntryNotFoundError(msg)

    monkeypatch.setattr(pretrained, "_trained", refuse)


@pytest.mark.usefixtures("no_network", "no_weights")
def test_a_hub_that_cannot_be_reached_gives_one_notice(spec: ModelSpec) -> None:
    network = build_network(spec)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    notices: list[str] = []
    load_pretrained(network, spec, notice=notices.append)
    (notice,) = notices
    assert "'tu-resnet10t' begins with random weights" in notice
    assert "does not answer" in notice
    assert "\n" not in notice
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.usefixtures("no_weights")
def test_a_hub_without_the_weights_gives_its_reason(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_ask_hub", lambda: None)
    notices: list[str] = []
    load_pretrained(build_network(spec), spec, notice=notices.append)
    assert "We cannot find the requested files" in notices[0]


def random_weights(name: str, encoder: nn.Module) -> nn.Module:
    """As `_trained`, with weights that anyone can make."""
    create: Callable[..., nn.Module] = timm.create_model
    if hasattr(encoder, "pretrained_cfg"):
        trained = create(name)
    else:
        trained = get_encoder(name, depth=5, weights=None)
    for value in trained.state_dict().values():
        value.fill_(7)
    return trained


@pytest.mark.parametrize(
    ("task", "name", "encoder", "place"),
    [
        ("instance", "Unet", "tu-resnet10t", "encoder"),
        ("instance", "Unet", "resnet18", "encoder"),
        ("classification", "Timm", "resnet10t", "encoder"),
        ("detection", "FCOS", "tu-resnet10t", "backbone.encoder"),
    ],
)
def test_every_kind_of_encoder_is_filled(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch, task: str, name: str, encoder: str, place: str
) -> None:
    monkeypatch.setattr(pretrained, "_trained", random_weights)
    spec = with_architecture(spec, name, encoder)
    decode = None if task == "classification" else spec.decode
    if task == "detection" and decode is not None:
        decode = decode.model_copy(update={"name": "boxes"})
    spec = spec.model_copy(update={"task": task, "decode": decode})
    network = build_network(spec)
    notices: list[str] = []
    load_pretrained(network, spec, notice=notices.append)
    assert notices == []
    values = network.get_submodule(place).state_dict()
    filled = [key for key, value in values.items() if (value == 7).all()]
    # The last layer of a classifier has other classes.
    assert len(values) - len(filled) <= (2 if task == "classification" else 0)


def test_networks_of_our_own_begin_with_random_weights(spec: ModelSpec) -> None:
    spec = with_architecture(spec, "PlainCNN", "plaincnn")
    spec = spec.model_copy(update={"task": "classification", "decode": None})
    notices: list[str] = []
    load_pretrained(build_network(spec), spec, notice=notices.append)
    assert notices == []


def weights_of(encoder: str) -> dict[str, torch.Tensor]:
    """Those of a whole classifier with other classes, as files of the hub hold them."""
    create: Callable[..., nn.Module] = timm.create_model
    if encoder.startswith("tu-") or encoder == "resnet10t":
        whole = create(encoder.removeprefix("tu-"), num_classes=7)
    else:
        whole = get_encoder(encoder, depth=5, weights=None)
    return {name: torch.full_like(value, 7) for name, value in whole.state_dict().items()}


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize(
    ("task", "name", "encoder", "place"),
    [
        ("instance", "Unet", "tu-resnet10t", "encoder"),
        ("instance", "Unet", "resnet18", "encoder"),
        ("classification", "Timm", "resnet10t", "encoder"),
    ],
)
def test_a_file_fills_the_encoder(
    spec: ModelSpec, tmp_path: Path, task: str, name: str, encoder: str, place: str, ending: str
) -> None:
    spec = with_architecture(spec, name, encoder)
    decode = None if task == "classification" else spec.decode
    spec = spec.model_copy(update={"task": task, "decode": decode})
    network = build_network(spec)
    path = tmp_path / f"encoder.{ending}"
    if ending == "pt":
        torch.save(weights_of(encoder), path)
    else:
        save_file(weights_of(encoder), path)
    load_encoder_weights(network, spec, path=path)
    values = network.get_submodule(place).state_dict()
    left = [key for key, value in values.items() if not (value == 7).all()]
    assert [key for key in left if not key.startswith("fc")] == []


def test_a_file_of_another_encoder_is_refused(spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    save_file({"stem.weight": torch.zeros(3)}, path)
    with pytest.raises(SettingsError, match=r"of its layers are missing .* 'conv1.0.weight'"):
        load_encoder_weights(build_network(spec), spec, path=path)


@pytest.mark.parametrize("name", ["encoder.pt", "encoder.safetensors"])
def test_a_damaged_file_is_refused(spec: ModelSpec, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"nothing of the kind, but long enough to be looked into")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_encoder_weights(build_network(spec), spec, path=path)


def test_a_missing_file_is_named(spec: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no file"):
        load_encoder_weights(build_network(spec), spec, path=tmp_path / "none.pt")


def test_a_network_of_our_own_takes_no_file(spec: ModelSpec, tmp_path: Path) -> None:
    spec = with_architecture(spec, "PlainCNN", "plaincnn")
    spec = spec.model_copy(update={"task": "classification", "decode": None})
    with pytest.raises(SettingsError, match="takes no encoder weights"):
        load_encoder_weights(build_network(spec), spec, path=tmp_path / "any.pt")


@pytest.mark.parametrize(
    ("task", "name", "encoder"),
    [("instance", "Unet", "resnet18"), ("classification", "Timm", "resnet10t")],
)
def test_a_frozen_encoder_leaves_only_what_reads_it_to_train(
    spec: ModelSpec, task: str, name: str, encoder: str
) -> None:
    decode = None if task == "classification" else spec.decode
    spec = with_architecture(spec, name, encoder)
    spec = spec.model_copy(update={"task": task, "decode": decode})
    network = build_network(spec)
    freeze_encoder(network, spec)
    trained = [key for key, weight in network.named_parameters() if weight.requires_grad]
    if task == "classification":
        assert trained == ["encoder.fc.weight", "encoder.fc.bias"]
    else:
        assert trained
        assert not any(".encoder." in f".{key}" for key in trained)


def test_a_network_of_our_own_cannot_be_frozen(spec: ModelSpec) -> None:
    spec = with_architecture(spec, "PlainCNN", "plaincnn")
    spec = spec.model_copy(update={"task": "classification", "decode": None})
    with pytest.raises(SettingsError, match="no encoder to freeze"):
        freeze_encoder(build_network(spec), spec)
