"""The network in training: one step, the optimiser, its schedule and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from slideloom.models.spec import ModelSpec
from slideloom.models.training.data import Batch
from slideloom.models.training.epochs import Schedule
from slideloom.models.training.objective import Objective
from slideloom.models.training.pretrained import freeze_encoder
from slideloom.models.training.settings import FitSettings

__all__ = ["AverageNetwork", "TrainingModule"]

_WARM_UP = 0.05
"""Part of all steps in which the learning rate rises."""

_LAST_RATE = 0.01
"""Learning rate at the end, as a part of the highest."""


class AverageNetwork(nn.Module):
    """The mean of a network's weights over its last steps, which scores better than the last ones.

    An exponential moving average (B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic
    approximation by averaging", 1992) of weights and of the statistics of batch normalisation. It
    forgets faster at the beginning, when the weights are far from where they will be.
    """

    def __init__(self, network: nn.Module, *, all_steps: int) -> None:
        """Begin with a copy of `network`; the mean reaches back a twentieth of all steps."""
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)
        self._decay = 1 - 1 / max(all_steps / 20, 2)
        self.train()

    def train(self, mode: bool = True) -> AverageNetwork:
        """Stay in evaluation mode: the average is never trained itself."""
        del mode
        return super().train(False)

    @torch.no_grad()
    def update(self, network: nn.Module, *, step: int) -> None:
        """Take in the weights after step `step` (the first is 1)."""
        decay = min(self._decay, step / (step + 9))
        now = network.state_dict()
        for name, mean in self.network.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(now[name], 1 - decay)
            else:
                mean.copy_(now[name])


class TrainingModule(LightningModule):
    """What Lightning trains."""

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        *,
        objective: Objective,
        settings: FitSettings,
        schedule: Schedule,
    ) -> None:
        """Wrap a network.

        Args:
            network: Maps normalised pixels `(n, 3, y, x)` to what the objective reads.
            spec: Gives the normalisation.
            objective: What is made small.
            settings: Of the optimiser, and the seed.
            schedule: Gives the number of steps.
        """
        super().__init__()
        self.network = network.train()
        # In a tuple, so that it is not a second part of this module.
        self._frozen = (freeze_encoder(network, spec),) if settings.freeze_encoder else ()
        self.average = AverageNetwork(network, all_steps=schedule.all_steps)
        self._objective = objective
        self._settings = settings
        self._schedule = schedule
        norm = spec.normalisation
        std = torch.tensor(norm.std).view(1, 3, 1, 1)
        mean = torch.tensor(norm.mean).view(1, 3, 1, 1)
        self._scale: Tensor
        self._shift: Tensor
        self.register_buffer("_scale", 1 / (255 * std), persistent=False)
        self.register_buffer("_shift", -mean / std, persistent=False)

    def on_train_epoch_start(self) -> None:
        """Draw the same numbers in an epoch, whether or not training was interrupted before it."""
        epoch = self.current_epoch * self.trainer.world_size + self.global_rank
        torch.manual_seed((self._settings.seed << 32) + epoch)
        for encoder in self._frozen:
            encoder.eval()

    def training_step(self, batch: Batch, number: int) -> Tensor:
        """Loss of one batch."""
        del number
        parts = self._losses(self.network, batch)
        self._note("train", parts, tiles=len(batch.pixels))
        return parts["loss"]

    def validation_step(self, batch: Batch, number: int) -> None:
        """Loss of the averaged weights on one batch."""
        del number
        parts = self._losses(self.average.network, batch)
        self._note("validation", parts, tiles=len(batch.pixels))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Step, then average."""
        super().optimizer_step(*args, **kwargs)
        self.average.update(self.network, step=self.global_step + 1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, with a warm-up and a cosine for the learning rate."""
        weights = [item for item in self.network.parameters() if item.requires_grad]
        groups = [
            {
                "params": [item for item in weights if item.ndim > 1],
                "weight_decay": self._settings.weight_decay,
            },
            {"params": [item for item in weights if item.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self._settings.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _rate(self, step: int) -> float:
        """Learning rate at a step, as a part of the highest."""
        warm_up = max(1, round(_WARM_UP * self._schedule.all_steps))
        if step < warm_up:
            return (step + 1) / warm_up
        done = min(1.0, (step - warm_up) / max(1, self._schedule.all_steps - warm_up))
        return _LAST_RATE + (1 - _LAST_RATE) * (1 + math.cos(math.pi * done)) / 2

    def _losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        pixels = batch.pixels.float() * self._scale + self._shift
        parts = self._objective.losses(network, pixels, encoded=batch.encoded)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _note(self, name: str, parts: Mapping[str, Tensor], *, tiles: int) -> None:
        values = {f"{name}/{part}": value.detach() for part, value in parts.items()}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=tiles, sync_dist=True)
