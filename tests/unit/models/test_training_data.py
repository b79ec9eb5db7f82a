import numpy as np
import torch
from torch.utils.data import DataLoader

from slideloom.models.spec import ModelSpec
from slideloom.models.training.data import Batch, TileLoaders
from slideloom.models.training.objective import objective_of
from slideloom.models.training.settings import FitSettings
from slideloom.models.training.source import TrainingTile
from tests.makers.training_discs import DiscTiles


def data_of(spec: ModelSpec, *, tiles: int, settings: FitSettings) -> TileLoaders:
    return TileLoaders(
        train=DiscTiles(tiles=tiles, seed=1),
        validation=DiscTiles(tiles=tiles, seed=2),
        objective=objective_of(spec),
        settings=settings,
    )


def epoch_of(loader: DataLoader[TrainingTile], epoch: int) -> list[Batch]:
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def settings(**values: object) -> FitSettings:
    return FitSettings.model_validate({"batch_size": 4, "workers": 0, "device": "cpu", **values})


def test_batches_are_full_and_every_tile_is_in_the_epoch(spec: ModelSpec) -> None:
    loader = data_of(spec, tiles=6, settings=settings(augment=None)).train_dataloader()
    batches = epoch_of(loader, 3)
    assert len(loader) == len(batches) == 2
    assert {tuple(batch.pixels.shape) for batch in batches} == {(4, 3, 64, 64)}
    seen = {tile.numpy().tobytes() for batch in batches for tile in batch.pixels}
    source = DiscTiles(tiles=6, seed=1)
    whole = {
        np.ascontiguousarray(source.read(number, epoch=3).pixels.transpose(2, 0, 1)).tobytes()
        for number in range(6)
    }
    assert seen == whole


def test_an_epoch_is_the_same_each_time_and_unlike_the_next(spec: ModelSpec) -> None:
    loader = data_of(spec, tiles=6, settings=settings()).train_dataloader()
    first, again, other = (epoch_of(loader, epoch) for epoch in (1, 1, 2))
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(one.encoded.targets, two.encoded.targets)
        assert not torch.equal(one.pixels, three.pixels)


def test_tiles_that_fill_a_batch_are_augmented_otherwise(spec: ModelSpec) -> None:
    loader = data_of(spec, tiles=1, settings=settings()).train_dataloader()
    (batch,) = epoch_of(loader, 0)
    assert len({tile.numpy().tobytes() for tile in batch.pixels}) == 4


def test_loader_processes_give_what_one_process_gives(spec: ModelSpec) -> None:
    alone, helped = (
        epoch_of(data_of(spec, tiles=8, settings=settings(workers=workers)).train_dataloader(), 1)
        for workers in (0, 1)
    )
    for one, two in zip(alone, helped, strict=True):
        assert torch.equal(one.pixels, two.pixels)
        assert torch.equal(one.encoded.targets, two.encoded.targets)


def test_validation_takes_every_tile_once_as_it_is(spec: ModelSpec) -> None:
    loader = data_of(spec, tiles=6, settings=settings()).val_dataloader()
    batches: list[Batch] = list(loader)
    assert [len(batch.pixels) for batch in batches] == [4, 2]
    source = DiscTiles(tiles=6, seed=2)
    for number, tile in enumerate(torch.cat([batch.pixels for batch in batches])):
        wanted = source.read(number, epoch=0).pixels
        np.testing.assert_array_equal(tile.permute(1, 2, 0).numpy(), wanted)
