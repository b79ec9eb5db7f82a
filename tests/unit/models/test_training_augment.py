import numpy as np

from slideloom.models.training.augment import augment_tile, jitter_stain
from slideloom.models.training.settings import Augmentation
from tests.makers.training_discs import DiscTiles

NOTHING = Augmentation(turns=False, rotation_deg=0, scale=0, shear_deg=0, stain=0, light=0, blur=0)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_without_any_change_a_tile_stays_as_it_is() -> None:
    tile = DiscTiles(tiles=1, seed=0).read(0, epoch=0)
    after = augment_tile(tile, NOTHING, draw=generator(0))
    np.testing.assert_array_equal(after.pixels, tile.pixels)
    np.testing.assert_array_equal(after.truth.instances, tile.truth.instances)
    np.testing.assert_allclose(after.truth.boxes, tile.truth.boxes, atol=1e-4)


def test_the_same_draw_gives_the_same_tile_and_another_one_another() -> None:
    tile = DiscTiles(tiles=1, seed=0).read(0, epoch=0)
    first, again, other = (
        augment_tile(tile, Augmentation(), draw=generator(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.truth.instances, again.truth.instances)
    assert (first.pixels != other.pixels).any()
    assert (first.truth.instances != other.truth.instances).any()


def test_only_turns_keep_every_pixel() -> None:
    tile = DiscTiles(tiles=1, seed=0).read(0, epoch=0)
    rules = NOTHING.model_copy(update={"turns": True})
    found = [augment_tile(tile, rules, draw=generator(seed)) for seed in range(40)]
    for after in found:
        np.testing.assert_array_equal(
            np.sort(after.pixels, axis=None), np.sort(tile.pixels, axis=None)
        )
    assert len({after.pixels.tobytes() for after in found}) == 8


def test_tiles_that_are_no_squares_keep_their_shape() -> None:
    tile = DiscTiles(tiles=1, seed=0).read(0, epoch=0)
    half = type(tile)(
        pixels=tile.pixels[:32],
        truth=type(tile.truth)(
            masks=tile.truth.masks[:, :32],
            instances=tile.truth.instances[:32],
            boxes=tile.truth.boxes,
            class_id=tile.truth.class_id,
            labels=tile.truth.labels,
            known=tile.truth.known[:32],
        ),
    )
    rules = NOTHING.model_copy(update={"turns": True})
    for seed in range(10):
        after = augment_tile(half, rules, draw=generator(seed))
        assert after.pixels.shape == (32, 64, 3)
        assert after.truth.known.all()


def test_stain_jitter_leaves_pixels_where_they_are_and_white_almost_white() -> None:
    pixels = np.full((8, 8, 3), 255, np.uint8)
    pixels[2:4, 2:4] = (120, 60, 150)
    after = jitter_stain(pixels, 0.15, draw=generator(3))
    assert len(np.unique(after.reshape(-1, 3), axis=0)) == 2
    assert (after[2, 2] != pixels[2, 2]).any()
    assert np.abs(after[0, 0].astype(int) - 255).max() < 12
