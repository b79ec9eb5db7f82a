"""Train a network on tiles: one call, which goes on where an interrupted one stopped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.architectures import build_network
from slideloom.models.detectors import is_detector
from slideloom.models.device import choose_device, choose_dtype
from slideloom.models.heads import head_of
from slideloom.models.spec import ModelSpec
from slideloom.models.training.checkpoints import Checkpoints, training_key
from slideloom.models.training.curves import draw_curves
from slideloom.models.training.data import TileLoaders
from slideloom.models.training.epochs import Schedule, schedule_of
from slideloom.models.training.history import EpochRecord
from slideloom.models.training.module import TrainingModule
from slideloom.models.training.objective import objective_of
from slideloom.models.training.pretrained import load_encoder_weights, load_pretrained
from slideloom.models.training.quiet import quiet_lightning
from slideloom.models.training.recorder import MONITOR, Keeper, Recorder, read_records
from slideloom.models.training.settings import FitSettings
from slideloom.models.training.source import TileSource

__all__ = ["FitOutput", "Fitted", "fit"]

_PRECISIONS: Mapping[torch.dtype, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    torch.float32: "32-true",
    torch.bfloat16: "bf16-mixed",
    torch.float16: "16-mixed",
}


def _say_nothing(message: object) -> None:
    del message


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOutput:
    """Where a training leaves its files, and whom it tells how it goes.

    Attributes:
        folder: Gets `history.csv`, `curves.png`, `logs/` (TensorBoard) and `checkpoints/`.
        on_epoch: Called after each epoch.
        notice: Called with a sentence that the user should read.
    """

    folder: Path
    on_epoch: Callable[[EpochRecord], None] = _say_nothing
    notice: Callable[[str], None] = _say_nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A trained network.

    Attributes:
        network: The averaged weights of the best epoch: float32, on the CPU, in evaluation mode.
        history: Of all epochs, those before an interruption too.
        stopped_early: Whether the validation loss no longer fell, before the last epoch.
    """

    network: nn.Module
    history: tuple[EpochRecord, ...]
    stopped_early: bool

    @property
    def best(self) -> EpochRecord:
        """The epoch whose weights these are."""
        return next(record for record in reversed(self.history) if record.best)


def fit(
    spec: ModelSpec,
    *,
    train: TileSource,
    validation: TileSource,
    settings: FitSettings,
    output: FitOutput,
    start: nn.Module | None = None,
) -> Fitted:
    """Train the network of `spec`, and keep the weights with the lowest validation loss.

    A training that was interrupted goes on after the last epoch that it finished, if spec, settings
    and tiles are the same; on the CPU it ends at the same weights. One that was finished gives its
    result again. With several GPUs each gets a process of its own, and only the first returns.

    Args:
        spec: What is trained.
        train: Tiles to learn from; they are changed at random as the settings say.
        validation: Tiles to choose the best epoch by, of other slides.
        settings: Of the training.
        output: Where files go, and whom to tell.
        start: The network to begin with, such as a trained one; None builds it. It is copied.

    Raises:
        SettingsError: There are no tiles, the network cannot be built, the device cannot be used,
            or the loss is no longer finite.
    """
    for name, source in (("train", train), ("validation", validation)):
        if len(source) == 0:
            msg = f"there are no tiles for {name}: give more images, or split them otherwise"
            raise SettingsError(msg)
    device = choose_device(settings.device)
    if settings.devices > 1 and device.type == "cpu":
        msg = f"devices {settings.devices} counts GPUs, and training runs on the CPU: set it to 1"
        raise SettingsError(msg)
    schedule = schedule_of(settings, tiles=len(train))
    key = training_key(spec, settings, train=train, validation=validation, start=start)
    checkpoints = Checkpoints(folder=output.folder / "checkpoints")
    goes_on = _begin(checkpoints, key=key, output=output)
    objective = objective_of(spec)
    gpus = [device] if device.type == "cuda" else []
    with quiet_lightning(), torch.random.fork_rng(gpus):
        torch.manual_seed(settings.seed)
        if start is not None:
            network = deepcopy(start)
        else:
            network = _first_network(spec, settings, notice=None if goes_on else output.notice)
        if not checkpoints.is_done(key):
            module = TrainingModule(
                network, spec, objective=objective, settings=settings, schedule=schedule
            )
            data = TileLoaders(
                train=train, validation=validation, objective=objective, settings=settings
            )
            trainer = _trainer(settings, schedule, checkpoints=checkpoints, output=output)
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=checkpoints.last if goes_on else None,
                weights_only=True,
            )
            if not trainer.is_global_zero:
                raise SystemExit(0)
            checkpoints.finish(key)
    records = tuple(read_records(checkpoints.last))
    draw_curves(output.folder / "curves.png", records)
    return Fitted(
        network=_best_network(network, checkpoints.best),
        history=records,
        stopped_early=len(records) < schedule.epochs,
    )


def _begin(checkpoints: Checkpoints, *, key: str, output: FitOutput) -> bool:
    """Whether an earlier training goes on, which the user is told."""
    beginning = checkpoints.begin(key)
    if beginning == "goes on" and not checkpoints.is_done(key):
        epoch = len(read_records(checkpoints.last))
        output.notice(f"training goes on after epoch {epoch}, where it was interrupted")
    if beginning == "changed":
        shutil.rmtree(output.folder / "logs", ignore_errors=True)
        output.notice(
            "settings, model or tiles are not those of the training that was begun in "
            f"{str(output.folder)!r}: it begins anew"
        )
    return beginning == "goes on"


def _first_network(
    spec: ModelSpec, settings: FitSettings, *, notice: Callable[[str], None] | None
) -> nn.Module:
    """A network to begin with; without a notice its weights do not matter."""
    network = build_network(spec)
    if notice is None:
        return network
    if not is_detector(spec):
        head_of(spec).begin(network, spec)
    if settings.encoder_weights is not None:
        load_encoder_weights(network, spec, path=settings.encoder_weights)
    elif settings.pretrained and load_pretrained(network, spec, notice=notice):
        pass
    elif settings.freeze_encoder:
        msg = (
            "fit.freeze_encoder keeps the encoder as it is, and it has random weights: give "
            "--encoder-weights, or leave it out"
        )
        raise SettingsError(msg)
    return network


def _trainer(
    settings: FitSettings, schedule: Schedule, *, checkpoints: Checkpoints, output: FitOutput
) -> Trainer:
    device = choose_device(settings.device)
    precision = settings.precision
    if precision == "auto" and device.type == "cpu":
        precision = "float32"
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=_gpus(device, settings.devices) if device.type == "cuda" else 1,
        precision=_PRECISIONS[choose_dtype(precision, device)],
        max_epochs=schedule.epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip,
        callbacks=_callbacks(schedule, checkpoints=checkpoints, output=output),
        logger=TensorBoardLogger(output.folder, name="logs", version=""),
        log_every_n_steps=schedule.batches,
        num_sanity_val_steps=0,
        enable_progress_bar=sys.stdout.isatty(),
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=output.folder,
    )


def _gpus(first: torch.device, count: int) -> list[int]:
    """The numbers of so many GPUs, from `first` on.

    Raises:
        SettingsError: There are not as many.
    """
    index = first.index or 0
    choose_device(f"cuda:{index + count - 1}")
    return list(range(index, index + count))


def _callbacks(
    schedule: Schedule, *, checkpoints: Checkpoints, output: FitOutput
) -> list[Callback]:
    recorder = Recorder(
        output.folder / "history.csv", epochs=schedule.epochs, on_epoch=output.on_epoch
    )
    callbacks: list[Callback] = [
        recorder,
        EarlyStopping(
            MONITOR, patience=schedule.patience, mode="min", check_on_train_epoch_end=True
        ),
        Keeper(checkpoints, recorder=recorder),
    ]
    if sys.stdout.isatty():
        callbacks.append(RichProgressBar())
    return callbacks


def _best_network(network: nn.Module, checkpoint: Path) -> nn.Module:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "average.network."
    best = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    network.load_state_dict(best)
    return network.float().cpu().eval()
