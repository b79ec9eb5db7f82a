"""How long to train: the rule behind `epochs: auto`."""

from __future__ import annotations

from dataclasses import dataclass

from slideloom.models.training.settings import FitSettings

__all__ = ["Schedule", "schedule_of"]

STEPS = 2_000
"""Steps of the optimiser that `auto` aims at: small networks on few labels are done by then."""

FEWEST_EPOCHS = 15
"""Large data: every tile is still seen so often."""

MOST_EPOCHS = 200
"""Few tiles: more epochs only learn them by heart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long a training takes at most.

    Attributes:
        epochs: Most epochs.
        patience: Epochs without a better validation loss, after which training stops.
        batches: Forward passes of an epoch, on each device.
        steps: Steps of the optimiser in an epoch.
    """

    epochs: int
    patience: int
    batches: int
    steps: int

    @property
    def all_steps(self) -> int:
        """Steps of the optimiser in all epochs."""
        return self.epochs * self.steps


def schedule_of(settings: FitSettings, *, tiles: int) -> Schedule:
    """The schedule for so many tiles in an epoch.

    `auto` divides a budget of 2,000 steps by the steps of an epoch, within 15 to 200 epochs. Two
    images that give 16 tiles take 200 epochs of 2 steps; 2,000 tiles take 15 epochs of 250 steps.
    The patience is a quarter of that, and at least 10 epochs, so that the learning rate has come
    down before training is given up.
    """
    batches = -(-tiles // (settings.batch_size * settings.devices))
    steps = -(-batches // settings.accumulate)
    good = min(max(-(-STEPS // steps), FEWEST_EPOCHS), MOST_EPOCHS)
    epochs = good if settings.epochs == "auto" else settings.epochs
    patience = max(10, epochs // 4) if settings.patience == "auto" else settings.patience
    return Schedule(epochs=epochs, patience=patience, batches=batches, steps=steps)
