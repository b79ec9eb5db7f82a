"""Batches of tiles: drawn, changed, encoded and stacked, by loader processes if there are any."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from slideloom.models.training.augment import augment_tile
from slideloom.models.training.objective import Objective
from slideloom.models.training.settings import Augmentation, FitSettings
from slideloom.models.training.source import TileSource, TrainingTile

__all__ = ["Batch", "TileLoaders"]

_MOST_WORKERS = 8


class Batch(NamedTuple):
    """Tiles of one forward pass.

    Attributes:
        pixels: `(n, 3, y, x)`, uint8.
        encoded: What the objective made of their annotations.
    """

    pixels: Tensor
    encoded: Any


class _Draw(NamedTuple):
    """One tile to read: which, of which epoch, and as the how many-th of that epoch."""

    number: int
    epoch: int
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """Which part of the tiles this process trains on: part `rank` of `parts`."""

    rank: int
    parts: int


class _Tiles(Dataset[TrainingTile]):
    def __init__(self, source: TileSource, *, rules: Augmentation | None, seed: int) -> None:
        self._source = source
        self._rules = rules
        self._seed = seed

    def __getitem__(self, at: _Draw) -> TrainingTile:
        tile = self._source.read(at.number, epoch=at.epoch)
        if self._rules is None:
            return tile
        draw = np.random.default_rng([self._seed, at.epoch, at.number, at.place])
        return augment_tile(tile, self._rules, draw=draw)


class _EachEpoch(Sampler[_Draw]):
    """Every tile once in another order each epoch, and some twice to fill the last batch.

    A batch of one tile would leave batch normalisation without statistics.
    """

    def __init__(self, tiles: int, *, settings: FitSettings, share: _Share) -> None:
        self._tiles = tiles
        self._seed = settings.seed
        self._share = share
        whole = settings.batch_size * share.parts
        self._length = -(-tiles // whole) * settings.batch_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[_Draw]:
        draw = np.random.default_rng([self._seed, self._epoch])
        order = draw.permutation(self._tiles)
        for place in range(self._share.rank, self._length * self._share.parts, self._share.parts):
            number = int(order[place % self._tiles])
            yield _Draw(number=number, epoch=self._epoch, place=place)


class _InOrder(Sampler[_Draw]):
    """Every tile of epoch 0 once."""

    def __init__(self, tiles: int, *, share: _Share) -> None:
        self._numbers = range(share.rank, tiles, share.parts)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[_Draw]:
        for number in self._numbers:
            yield _Draw(number=number, epoch=0, place=number)


class _Collate:
    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __call__(self, tiles: Sequence[TrainingTile]) -> Batch:
        pixels = torch.from_numpy(np.stack([tile.pixels for tile in tiles]))
        encoded = self._objective.encode([tile.truth for tile in tiles])
        return Batch(pixels=pixels.permute(0, 3, 1, 2).contiguous(), encoded=encoded)


class TileLoaders(LightningDataModule):
    """The loaders that Lightning asks for."""

    def __init__(
        self,
        *,
        train: TileSource,
        validation: TileSource,
        objective: Objective,
        settings: FitSettings,
    ) -> None:
        """Take the tiles, and what they are encoded for."""
        super().__init__()
        self._train = train
        self._validation = validation
        self._objective = objective
        self._settings = settings

    def train_dataloader(self) -> DataLoader[TrainingTile]:
        """Batches of an epoch, all of the full size; Lightning tells the sampler the epoch."""
        settings = self._settings
        tiles = _Tiles(self._train, rules=settings.augment, seed=settings.seed)
        sampler = _EachEpoch(len(self._train), settings=settings, share=self._share())
        return _loader(tiles, sampler, objective=self._objective, settings=settings)

    def val_dataloader(self) -> DataLoader[TrainingTile]:
        """The same batches each time; the last may be smaller."""
        settings = self._settings
        tiles = _Tiles(self._validation, rules=None, seed=settings.seed)
        sampler = _InOrder(len(self._validation), share=self._share())
        return _loader(tiles, sampler, objective=self._objective, settings=settings)

    def _share(self) -> _Share:
        trainer = self.trainer
        if trainer is None:
            return _Share(rank=0, parts=1)
        return _Share(rank=trainer.global_rank, parts=trainer.world_size)


def _loader(
    tiles: _Tiles, sampler: Sampler[_Draw], *, objective: Objective, settings: FitSettings
) -> DataLoader[TrainingTile]:
    spare = (os.cpu_count() or 1) - 1
    good = 0 if spare <= 1 else min(_MOST_WORKERS, spare)
    workers = good if settings.workers == "auto" else settings.workers
    return DataLoader(
        tiles,
        batch_size=settings.batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_Collate(objective),
        pin_memory=settings.device != "cpu" and torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        # Else it draws from the numbers that dropout draws from, with workers at other times.
        generator=torch.Generator(),
    )


def _one_thread(worker: int) -> None:
    del worker
    cv2.setNumThreads(0)
