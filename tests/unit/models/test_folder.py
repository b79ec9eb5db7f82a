"""Model folders: what is written is read back, and damage is named."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HFValidationError
from safetensors.torch import load_file, save_file

from slideloom.errors import ModelFolderError, ModelNotFoundError
from slideloom.models.architectures import build_network
from slideloom.models.catalog import list_models, model_folder, read_card
from slideloom.models.folder import load_model, save_model
from slideloom.models.spec import ModelSpec


@pytest.fixture
def folder(spec: ModelSpec, tmp_path: Path) -> Path:
    save_model(tmp_path / "small", spec, module=build_network(spec), card="# small\n")
    return tmp_path / "small"


def edit_json(folder: Path, **fields: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_round_trip(spec: ModelSpec, tmp_path: Path) -> None:
    network = build_network(spec)
    written = save_model(tmp_path / "deep" / "small", spec, module=network, card="# small\n")
    model = load_model(tmp_path / "deep" / "small", device="cpu")
    assert model.spec == written
    assert written.weights_sha256 is not None
    assert written == spec.model_copy(update={"weights_sha256": written.weights_sha256})
    loaded = model.load().state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())
    names = sorted(path.name for path in (tmp_path / "deep" / "small").iterdir())
    assert names == ["README.md", "model.json", "weights.safetensors"]


def test_half_weights_are_half_the_size_and_load_as_float32(
    spec: ModelSpec, tmp_path: Path
) -> None:
    network = build_network(spec)
    for name, dtype in (("full", torch.float32), ("half", torch.float16)):
        save_model(tmp_path / name, spec, module=network, card="", dtype=dtype)
    sizes = [(tmp_path / n / "weights.safetensors").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded = load_model(tmp_path / "half", device="cpu").load()
    for name, value in network.state_dict().items():
        assert loaded.state_dict()[name].dtype == value.dtype
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-3, rtol=1e-3)


def test_large_statistics_survive_half_weights(spec: ModelSpec, tmp_path: Path) -> None:
    network = build_network(spec)
    name = next(n for n, _ in network.named_buffers() if n.endswith("running_var"))
    network.get_buffer(name).fill_(1e6)
    save_model(tmp_path, spec, module=network, card="", dtype=torch.float16)
    loaded = load_model(tmp_path, device="cpu").load()
    assert bool((loaded.get_buffer(name) == 1e6).all())


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'nuclear': give a built-in name \(nuclei"):
        load_model("nuclear")


def test_builtin_names_win_over_folders_of_the_same_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rename(tmp_path / "nuclei")
    monkeypatch.chdir(tmp_path)
    assert model_folder("nuclei").parent.name == "builtin"
    assert model_folder("./nuclei") == Path("nuclei")
    assert model_folder(Path("nuclei")) == Path("nuclei")


def test_list_models_is_sorted_and_unique() -> None:
    names = [spec.name for spec in list_models()]
    assert names == sorted(set(names))
    assert "nuclei" in names


def remove_json(folder: Path) -> None:
    (folder / "model.json").unlink()


def cut_json(folder: Path) -> None:
    (folder / "model.json").write_text('{"format": 1,')


def list_json(folder: Path) -> None:
    (folder / "model.json").write_text("[]")


def binary_json(folder: Path) -> None:
    (folder / "model.json").write_bytes(b"\xff\xfe\x00")


def newer_format(folder: Path) -> None:
    edit_json(folder, format=2)


def wrong_field(folder: Path) -> None:
    edit_json(folder, mpp=-1)


def unknown_field(folder: Path) -> None:
    edit_json(folder, magnification=20)


def remove_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def change_weights(folder: Path) -> None:
    path = folder / "weights.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def cut_weights(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    edit_json(folder, weights_sha256=None)


def pickle_weights(folder: Path) -> None:
    torch.save({"a": torch.zeros(1)}, folder / "weights.safetensors")
    edit_json(folder, weights_sha256=None)


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "weights.safetensors")
    change(tensors)
    save_file(tensors, folder / "weights.safetensors")
    edit_json(folder, weights_sha256=None)


def lose_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("segmentation_head.0.bias"))


def extra_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update(extra=torch.zeros(1)))


def wrong_shape(folder: Path) -> None:
    key = "segmentation_head.0.bias"
    rewrite(folder, lambda tensors: tensors.update({key: torch.zeros(9)}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (remove_json, "has no model.json"),
        (cut_json, "cannot be read as JSON"),
        (list_json, "is not a model spec"),
        (binary_json, "cannot be read as JSON"),
        (newer_format, "has format 2, and this slideloom reads 1"),
        (wrong_field, "is not a model spec, mpp: .*greater than 0"),
        (unknown_field, "is not a model spec, magnification: "),
        (remove_weights, "has no readable weights.safetensors"),
        (change_weights, "has another sha256"),
        (cut_weights, "is not a safetensors file"),
        (pickle_weights, "is not a safetensors file"),
        (lose_tensor, r"lacks tensor 'segmentation_head.0.bias' \(1 such"),
        (extra_tensor, "has an unknown tensor 'extra'"),
        (wrong_shape, r"with shape \(9,\), and the architecture .* wants \(2,\)"),
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(folder)
    with pytest.raises(ModelFolderError, match=says) as caught:
        load_model(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_folder_that_cannot_be_written(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFolderError, match="cannot be written"):
        save_model(tmp_path / "file", spec, module=build_network(spec), card="")


def test_hub_models_come_from_a_snapshot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def snapshot(repository: str, *, allow_patterns: list[str]) -> str:
        asked.extend([repository, *allow_patterns])
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load_model("hf://someone/small", device="cpu").spec.name == "small"
    assert asked == ["someone/small", "model.json", "weights.safetensors", "README.md"]


def test_hub_failure_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(repository: str, *, allow_patterns: list[str]) -> str:
        message = f"bad name\n{repository}\n{allow_patterns}"
        raise HFValidationError(message)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelNotFoundError, match="hf://a/b cannot be downloaded") as caught:
        load_model("hf://a/b")
    assert "\n" not in str(caught.value)


def test_a_folder_without_card_says_so(folder: Path) -> None:
    assert read_card(folder) == "# small\n"
    (folder / "README.md").unlink()
    with pytest.raises(ModelFolderError, match=r"no README\.md"):
        read_card(folder)
