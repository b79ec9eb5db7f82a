import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.architectures import build_network
from slideloom.models.network import NetworkModel
from slideloom.models.spec import Architecture, Decode, ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.models.training.fit import FitOutput, Fitted, fit
from slideloom.models.training.history import EpochRecord
from slideloom.models.training.settings import FitSettings
from slideloom.models.training.source import TrainingTile
from slideloom.wsi.geometry import Box
from tests.makers.training_discs import DiscTiles

Fit = Callable[..., Fitted]

SIX = DiscTiles(tiles=6, seed=1, side_px=32)


class PowerCutError(Exception):
    """Ends a training as a power cut would."""


@dataclass(frozen=True, kw_only=True)
class CutTiles(DiscTiles):
    """Tiles that can be read up to the middle of an epoch."""

    last_epoch: int

    def read(self, number: int, *, epoch: int) -> TrainingTile:
        if epoch == self.last_epoch and number == 1:
            raise PowerCutError
        return super().read(number, epoch=epoch)


def small_network() -> nn.Module:
    """Too small to be good, with what makes repeating hard: statistics and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Conv2d(8, 2, 1),
        )


@pytest.fixture
def semantic(spec: ModelSpec) -> ModelSpec:
    return spec.model_copy(update={"task": "semantic", "decode": None})


def settings(**values: object) -> FitSettings:
    given = {"epochs": 4, "batch_size": 4, "device": "cpu", "workers": 0, "learning_rate": 0.02}
    return FitSettings.model_validate({**given, "pretrained": False, **values})


@pytest.fixture
def fit_small(semantic: ModelSpec, tmp_path: Path) -> Fit:
    def run(
        name: str = "run",
        *,
        train: DiscTiles = SIX,
        on_epoch: Callable[[EpochRecord], None] = print,
        notice: Callable[[str], None] = print,
        **values: object,
    ) -> Fitted:
        return fit(
            semantic,
            train=train,
            validation=DiscTiles(tiles=3, seed=2, side_px=32),
            settings=settings(**values),
            output=FitOutput(folder=tmp_path / name, on_epoch=on_epoch, notice=notice),
            start=small_network(),
        )

    return run


def losses(fitted: Fitted) -> list[tuple[dict[str, float], dict[str, float], float, int]]:
    return [
        (dict(item.train), dict(item.validation), item.learning_rate, item.step)
        for item in fitted.history
    ]


def assert_equal_weights(one: nn.Module, two: nn.Module) -> None:
    wanted = two.state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, wanted[name]), name


def csv_without_seconds(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def test_a_training_leaves_its_files_and_a_network_that_is_ready(
    fit_small: Fit, tmp_path: Path
) -> None:
    told: list[EpochRecord] = []
    before = torch.random.get_rng_state()
    fitted = fit_small(on_epoch=told.append)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert tuple(told) == fitted.history
    assert [record.epoch for record in fitted.history] == [1, 2, 3, 4]
    assert [record.step for record in fitted.history] == [2, 4, 6, 8]
    assert not fitted.stopped_early
    assert not fitted.network.training
    assert {value.dtype for value in fitted.network.parameters()} == {torch.float32}
    best = min(fitted.history, key=lambda record: record.validation["loss"])
    assert fitted.best == best
    for record in fitted.history:
        parts = {name: value for name, value in record.train.items() if name != "loss"}
        assert sum(parts.values()) == pytest.approx(record.train["loss"])
    with Image.open(tmp_path / "run" / "curves.png") as picture:
        assert min(picture.size) > 300
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "checkpoints",
        "curves.png",
        "history.csv",
        "logs",
    }
    rows = csv_without_seconds(tmp_path / "run" / "history.csv")
    assert [float(row["validation/loss"]) for row in rows] == [
        record.validation["loss"] for record in fitted.history
    ]


def test_the_same_seed_gives_the_same_training_and_another_another(fit_small: Fit) -> None:
    one, two, other = (fit_small(name, seed=seed) for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert losses(one) == losses(two)
    assert_equal_weights(one.network, two.network)
    assert losses(one) != losses(other)


def test_loader_processes_change_nothing(fit_small: Fit) -> None:
    assert losses(fit_small("a", epochs=2)) == losses(fit_small("b", epochs=2, workers=1))


@pytest.mark.parametrize("last_epoch", [1, 3])
def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    fit_small: Fit, tmp_path: Path, last_epoch: int
) -> None:
    whole = fit_small("whole", accumulate=2, train=DiscTiles(tiles=12, seed=1, side_px=32))
    cut = CutTiles(tiles=12, seed=1, side_px=32, last_epoch=last_epoch)
    with pytest.raises(PowerCutError):
        fit_small("cut", accumulate=2, train=cut)
    # The folder may lie elsewhere by then.
    (tmp_path / "cut").rename(tmp_path / "moved")
    told: list[EpochRecord] = []
    notices: list[str] = []
    rest = fit_small(
        "moved",
        accumulate=2,
        train=DiscTiles(tiles=12, seed=1, side_px=32),
        on_epoch=told.append,
        notice=notices.append,
    )
    assert notices == [f"training goes on after epoch {last_epoch}, where it was interrupted"]
    assert [record.epoch for record in told] == list(range(last_epoch + 1, 5))
    assert losses(rest) == losses(whole)
    assert [record.best for record in rest.history] == [record.best for record in whole.history]
    assert_equal_weights(rest.network, whole.network)
    assert csv_without_seconds(tmp_path / "moved" / "history.csv") == csv_without_seconds(
        tmp_path / "whole" / "history.csv"
    )


def test_a_finished_training_gives_its_result_again(fit_small: Fit) -> None:
    first = fit_small()
    told: list[EpochRecord] = []
    again = fit_small(on_epoch=told.append)
    assert told == []
    assert again.history == first.history
    assert_equal_weights(again.network, first.network)


def test_other_settings_or_tiles_train_anew(fit_small: Fit) -> None:
    fit_small(epochs=2)
    for values in ({"learning_rate": 0.01}, {"train": DiscTiles(tiles=6, seed=9, side_px=32)}):
        told: list[EpochRecord] = []
        notices: list[str] = []
        fit_small(epochs=2, on_epoch=told.append, notice=notices.append, **values)
        assert [record.epoch for record in told] == [1, 2]
        assert len(notices) == 1
        assert "begins anew" in notices[0]


def test_training_stops_when_the_validation_loss_no_longer_falls(fit_small: Fit) -> None:
    fitted = fit_small(epochs=30, patience=2, learning_rate=1e-12)
    assert fitted.stopped_early
    assert len(fitted.history) < 30
    last = len(fitted.history)
    assert last - fitted.best.epoch == 2
    told: list[EpochRecord] = []
    fit_small(epochs=30, patience=2, learning_rate=1e-12, on_epoch=told.append)
    assert told == []


def test_a_loss_that_is_not_finite_says_so(fit_small: Fit) -> None:
    with pytest.raises(SettingsError, match="learning_rate"):
        fit_small(learning_rate=1e30, clip=1e30)


def test_no_tiles_are_an_error(fit_small: Fit) -> None:
    with pytest.raises(SettingsError, match="no tiles for train"):
        fit_small(train=DiscTiles(tiles=0, seed=1))


def test_several_devices_are_gpus(fit_small: Fit) -> None:
    with pytest.raises(SettingsError, match="counts GPUs"):
        fit_small(devices=2)


def test_a_unet_learns_discs_in_seconds(semantic: ModelSpec, tmp_path: Path) -> None:
    encoder = Architecture(
        name="Unet",
        encoder="tu-mobilenetv3_small_050",
        arguments={"encoder_depth": 3, "decoder_channels": (32, 16, 16)},
    )
    spec = semantic.model_copy(update={"architecture": encoder})
    fitted = fit(
        spec,
        train=DiscTiles(tiles=32, seed=1),
        validation=DiscTiles(tiles=4, seed=2),
        settings=settings(epochs=6, batch_size=8, learning_rate=3e-3),
        output=FitOutput(folder=tmp_path),
    )
    assert fitted.best.validation["loss"] < 0.5 * fitted.history[0].validation["loss"]
    tile = DiscTiles(tiles=1, seed=3).read(0, epoch=0)
    model = NetworkModel(spec, fitted.network, device="cpu", precision="float32")
    box = Box(x0=0, y0=0, x1=64, y1=64)
    maps = model.predict(TileBatch(pixels=tile.pixels[None], windows=(box,)))
    found, wanted = maps[0].argmax(axis=-1) == 1, tile.truth.masks[0]
    assert (found & wanted).sum() / (found | wanted).sum() > 0.8


def test_a_frozen_encoder_stays_as_it_is_with_its_statistics(
    semantic: ModelSpec, tmp_path: Path
) -> None:
    encoder = Architecture(
        name="Unet",
        encoder="tu-mobilenetv3_small_050",
        arguments={"encoder_depth": 3, "decoder_channels": (32, 16, 16)},
    )
    spec = semantic.model_copy(update={"architecture": encoder})
    given = build_network(spec)
    fitted = fit(
        spec,
        train=SIX,
        validation=DiscTiles(tiles=3, seed=2, side_px=32),
        settings=settings(epochs=2, freeze_encoder=True),
        output=FitOutput(folder=tmp_path),
        start=given,
    )
    before = given.state_dict()
    changed = {
        name.split(".")[0]
        for name, value in fitted.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"decoder", "segmentation_head"}


def test_random_weights_are_not_frozen(semantic: ModelSpec, tmp_path: Path) -> None:
    spec = semantic.model_copy(
        update={"architecture": Architecture(name="Unet", encoder="resnet18")}
    )
    with pytest.raises(SettingsError, match="it has random weights"):
        fit(
            spec,
            train=SIX,
            validation=SIX,
            settings=settings(freeze_encoder=True),
            output=FitOutput(folder=tmp_path),
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_too(fit_small: Fit) -> None:
    fitted = fit_small(device="cuda:0")
    assert fitted.history[-1].train["loss"] < fitted.history[0].train["loss"]
    assert {value.device.type for value in fitted.network.parameters()} == {"cpu"}
    assert {value.dtype for value in fitted.network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "decode", "arguments"),
    [
        ("FCOS", "boxes", {"fpn_channels": 32}),
        ("Unet", "centres", {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}),
    ],
)
def test_objects_are_learned_too(
    spec: ModelSpec, tmp_path: Path, name: str, decode: str, arguments: dict[str, Any]
) -> None:
    architecture = Architecture(name=name, encoder="tu-resnet10t", arguments=arguments)
    update = {"task": "detection", "decode": Decode(name=decode), "architecture": architecture}
    fitted = fit(
        spec.model_copy(update=update),
        train=DiscTiles(tiles=4, seed=1),
        validation=DiscTiles(tiles=2, seed=2),
        settings=settings(epochs=3, batch_size=2, learning_rate=1e-3),
        output=FitOutput(folder=tmp_path),
    )
    assert fitted.history[-1].train["loss"] < fitted.history[0].train["loss"]
    assert np.isfinite(fitted.best.validation["loss"])
