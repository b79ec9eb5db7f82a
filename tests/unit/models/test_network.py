"""A network as a tile model: normalisation, sizes, precision, threads and processes."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.architectures import build_network
from slideloom.models.folder import load_model, save_model
from slideloom.models.network import NetworkModel
from slideloom.models.spec import ModelClass, ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.wsi.geometry import Box, Size
from tests.makers.blobs import blob_spec


def batch_of(pixels: NDArray[np.uint8]) -> TileBatch:
    window = Box.of_size(Size(width=pixels.shape[2], height=pixels.shape[1]))
    return TileBatch(pixels=pixels, windows=(window,) * len(pixels))


def noise(count: int, height: int = 64, width: int = 64) -> TileBatch:
    rng = np.random.default_rng(5)
    return batch_of(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


class Echo(nn.Module):
    """Gives the first two channels of what it sees, so that the input can be checked."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels[:, :2]


@pytest.fixture
def folder(spec: ModelSpec, tmp_path: Path) -> Path:
    torch.manual_seed(3)
    save_model(tmp_path / "small", spec, module=build_network(spec), card="# small\n")
    return tmp_path / "small"


def test_normalises_per_channel_and_activates(spec: ModelSpec) -> None:
    model = NetworkModel(spec, Echo(), device="cpu", precision="float32")
    batch = noise(2)
    norm = spec.normalisation
    wanted = (batch.pixels / 255 - np.array(norm.mean)) / np.array(norm.std)
    maps = model.predict(batch)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, 1 / (1 + np.exp(-wanted[..., :2])), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 77), (1, 1), (33, 128)])
def test_any_tile_size(folder: Path, height: int, width: int) -> None:
    maps = load_model(folder, device="cpu").predict(noise(2, height, width))
    assert maps.shape == (2, height, width, 2)
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_padding_repeats_the_edge_and_is_cut_off(spec: ModelSpec) -> None:
    seen: list[tuple[int, ...]] = []

    class Spy(Echo):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(pixels.shape))
            assert torch.equal(pixels[..., -1], pixels[..., 39])
            return super().forward(pixels)

    maps = NetworkModel(spec, Spy(), device="cpu").predict(noise(1, 70, 40))
    assert seen == [(1, 3, 96, 64)]
    assert maps.shape == (1, 70, 40, 2)


def test_empty_batch(folder: Path) -> None:
    assert load_model(folder, device="cpu").predict(noise(0)).shape == (0, 64, 64, 2)


class Pooled(nn.Module):
    """A classifier: the mean of each of two channels is the logit of a class."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels[:, :2].mean(dim=(2, 3), keepdim=True)


@pytest.fixture
def of_tiles(spec: ModelSpec) -> ModelSpec:
    """Says which of two classes a tile shows."""
    classes = tuple(ModelClass(name=name, color=(0, 0, 0)) for name in ("tumour", "other"))
    return spec.model_copy(update={"task": "classification", "classes": classes, "decode": None})


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_classifier_gives_probabilities_of_tiles(
    of_tiles: ModelSpec, *, overlapping: bool
) -> None:
    told = of_tiles.model_copy(update={"overlapping": overlapping})
    batch = noise(3, 50, 77)
    maps = NetworkModel(told, Pooled(), device="cpu", precision="float32").predict(batch)
    assert maps.shape == (3, 1, 1, 2)
    norm = of_tiles.normalisation
    padded = np.pad(batch.pixels, ((0, 0), (0, 14), (0, 19), (0, 0)), mode="edge")
    scores = ((padded / 255 - norm.mean) / norm.std).mean(axis=(1, 2))[:, :2]
    power = np.exp(scores)
    wanted = power / (1 + power) if overlapping else power / power.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(maps[:, 0, 0], wanted, atol=1e-5)
    empty = NetworkModel(told, Pooled(), device="cpu").predict(noise(0))
    assert empty.shape == (0, 1, 1, 2)


def _detector(name: str) -> NetworkModel:
    torch.manual_seed(4)
    # Untrained scores lie near 0 and differ between classes by chance only.
    spec = blob_spec(name, {"score_threshold": 0.0, "detections": 9}, tile_px=64)
    return NetworkModel(spec, build_network(spec), device="cpu", precision="bfloat16")


@pytest.mark.parametrize("name", ["FCOS", "FasterRCNN"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 77), (1, 1)])
def test_a_detector_gives_rows_within_the_tile(name: str, height: int, width: int) -> None:
    model = _detector(name)
    rows = model.predict(noise(2, height, width))
    assert rows.dtype == np.float32
    assert rows.shape == (2, rows.shape[1], 6)
    assert rows[..., :4].min(initial=0) >= 0
    assert (rows[..., :4] <= [width, height, width, height]).all()
    assert model.predict(noise(0)).shape == (0, 0, 6)


def test_mask_rcnn_gives_labels() -> None:
    labels = _detector("MaskRCNN").predict(noise(2, 50, 77))
    assert labels.dtype == np.int32
    assert labels.shape == (2, 50, 77, 2)


def test_detectors_run_in_float32_and_pickle() -> None:
    model = _detector("FCOS")
    rows = model.predict(noise(2))
    assert rows.shape[1] > 0
    exact = NetworkModel(model.spec, model.load(), device="cpu", precision="float32")
    np.testing.assert_array_equal(exact.predict(noise(2)), rows)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(noise(2)), rows)


def test_read_only_and_strided_pixels(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    batch = noise(2)
    wanted = model.predict(batch)
    locked = batch.pixels.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(model.predict(batch_of(locked)), wanted)
    reverse = batch.pixels[::-1]
    np.testing.assert_allclose(model.predict(batch_of(reverse))[::-1], wanted, atol=1e-2)


def test_a_tile_does_not_depend_on_its_batch(folder: Path) -> None:
    model = load_model(folder, device="cpu", precision="float32")
    together = noise(4)
    alone = batch_of(together.pixels[2:3])
    np.testing.assert_allclose(model.predict(together)[2:3], model.predict(alone), atol=1e-5)


def test_statistics_are_fixed(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    before = {name: value.clone() for name, value in model.load().state_dict().items()}
    model.predict(noise(4))
    after = model.load().state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_bfloat16_stays_near_float32(folder: Path) -> None:
    exact = load_model(folder, device="cpu", precision="float32").predict(noise(1))
    rough = load_model(folder, device="cpu", precision="bfloat16").predict(noise(1))
    assert rough.dtype == np.float32
    difference = np.abs(exact - rough)
    assert 0 < difference.max() < 0.05


def test_threads_share_one_model(folder: Path) -> None:
    model = NetworkModel(load_model(folder, device="cpu").spec, folder, device="cpu")
    with ThreadPoolExecutor(4) as pool:
        maps = list(pool.map(lambda _: model.predict(noise(2)), range(8)))
    for one in maps[1:]:
        np.testing.assert_array_equal(one, maps[0])


def test_pickle_carries_the_folder_not_the_weights(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    packed = pickle.dumps(model)
    assert len(packed) < 10_000
    np.testing.assert_array_equal(pickle.loads(packed).predict(noise(1)), model.predict(noise(1)))


def test_pickle_of_a_model_without_folder(spec: ModelSpec) -> None:
    model = NetworkModel(spec, build_network(spec), device="cpu")
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(noise(1)), model.predict(noise(1)))


@pytest.mark.slow
def test_spawned_process_gives_the_same(folder: Path) -> None:
    model = load_model(folder, device="cpu")
    with get_context("spawn").Pool(1) as pool:
        maps = pool.apply(model.predict, (noise(1),))
    np.testing.assert_allclose(maps, model.predict(noise(1)), atol=1e-2)


def test_missing_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SettingsError, match="cuda:0"):
        load_model(folder, device="cuda:0")


@pytest.mark.gpu
def test_gpu_agrees_with_the_processor(folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_gpu = load_model(folder, device="cuda:0").predict(noise(3))
    on_cpu = load_model(folder, device="cpu", precision="float32").predict(noise(3))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.05)
