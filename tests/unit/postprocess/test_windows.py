"""The weights of a tile's pixels: never 0 where a pixel has no other tile."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from slideloom.postprocess.masks.windows import HIGHEST, WINDOWS, WindowName, tile_weights

BELLS: tuple[WindowName, ...] = ("hann", "gaussian")


def test_every_name_has_a_window() -> None:
    assert tuple(WINDOWS) == get_args(WindowName)


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize(
    ("tile_px", "halo_px"), [(1, 0), (2, 0), (3, 1), (8, 3), (255, 20), (256, 32), (1024, 448)]
)
def test_the_core_is_never_without_weight(name: WindowName, tile_px: int, halo_px: int) -> None:
    weights = tile_weights(name, tile_px=tile_px, halo_px=halo_px)
    values = weights.values
    assert values.shape == (tile_px, tile_px)
    edge = halo_px - weights.reach_px
    assert values[edge : tile_px - edge, edge : tile_px - edge].min() >= 1
    values_outside = values.astype(int)
    values_outside[edge : tile_px - edge, edge : tile_px - edge] = 0
    assert not values_outside.any()
    np.testing.assert_array_equal(values, values[::-1])
    np.testing.assert_array_equal(values, values.T)


@pytest.mark.parametrize("name", WINDOWS)
def test_how_far_a_window_reaches(name: WindowName) -> None:
    reach_px = tile_weights(name, tile_px=64, halo_px=10).reach_px
    assert reach_px == (0 if name == "centre" else 10)


@pytest.mark.parametrize("name", BELLS)
@pytest.mark.parametrize("tile_px", [1, 2, 3, 8, 255, 256, 1024])
def test_a_bell_rises_to_the_middle(name: WindowName, tile_px: int) -> None:
    values = tile_weights(name, tile_px=tile_px, halo_px=0).values
    half = values[tile_px // 2, : (tile_px + 1) // 2].tolist()
    assert all(one <= two for one, two in pairwise(half))
    assert half[-1] == values.max()
    if tile_px >= 8:
        assert int(values.max()) >= HIGHEST - 60
        assert values.min() < values.max() / 2


def test_the_bells_are_those_of_their_formulas() -> None:
    hann = tile_weights("hann", tile_px=4, halo_px=0).values
    side = np.sin(np.pi * np.array([1, 3, 5, 7]) / 8) ** 2
    np.testing.assert_array_equal(hann, np.rint(255 * np.outer(side, side)))
    gaussian = tile_weights("gaussian", tile_px=16, halo_px=0).values
    # Two pixels are one sigma of a tile of 16; pixel 8 lies half a pixel from the middle.
    expected = 255 * np.exp(-0.5 * (0.25**2 + 1.25**2))
    assert gaussian[8, 10] == np.rint(expected)


@pytest.mark.parametrize("name", ["constant", "centre"])
def test_flat_windows_are_flat(name: WindowName) -> None:
    values = tile_weights(name, tile_px=20, halo_px=4).values
    assert set(np.unique(values)) <= {0, HIGHEST}
    assert (values[4:16, 4:16] == HIGHEST).all()
