"""Intensities and stain densities against scikit-image."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import rgb2hed
from skimage.measure import regionprops_table

from slideloom.errors import RegionError
from slideloom.postprocess.measure.intensity import (
    Intensities,
    IntensityTally,
    measure_intensities,
    stain_densities,
)
from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.geometry import Box

FRAME = Box(x0=-7, y0=20, x1=33, y1=50)


def _labels(rng: np.random.Generator) -> NDArray[np.int32]:
    labels = rng.integers(1, 9, FRAME.shape) * (rng.random(FRAME.shape) < rng.random())
    labels[0, :8] = np.arange(1, 9)
    return labels.astype(np.int32)


def _measure(labels: NDArray[np.int32], image: NDArray[Any], *, count: int = 8) -> Intensities:
    pixels = PixelSets.from_labels(labels, count=count, x0=FRAME.x0, y0=FRAME.y0)
    return measure_intensities(pixels, image, frame=FRAME)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "uint16", "float32"]))
def test_statistics_are_those_of_scikit_image(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    labels = _labels(rng)
    image = (rng.random((*FRAME.shape, 3)) * 200).astype(dtype)
    found = _measure(labels, image)
    for name in ("mean", "std", "min", "max"):
        prop = f"intensity_{name}"
        table = regionprops_table(labels, image.astype(float), properties=[prop])
        expected = np.column_stack([table[f"{prop}-{channel}"] for channel in range(3)])
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-9, atol=1e-9)


def test_a_small_spread_around_a_large_mean_is_exact() -> None:
    labels = np.ones(FRAME.shape, np.int32)
    image = 1e9 + np.indices(FRAME.shape).sum(axis=0)[..., None] % 2
    found = _measure(labels, image, count=1)
    assert found.mean.tolist() == [[1e9 + 0.5]]
    assert found.std.tolist() == [[0.5]]


def test_an_empty_set_has_no_intensity() -> None:
    labels = np.zeros(FRAME.shape, np.int32)
    labels[3, 4] = 2
    image = np.full((*FRAME.shape, 2), 9, np.uint8)
    found = _measure(labels, image, count=2)
    for name in ("mean", "std", "min", "max"):
        values = getattr(found, name)
        assert np.isnan(values[0]).all()
        assert values[1].tolist() == ([0, 0] if name == "std" else [9, 9])
    nothing = measure_intensities(PixelSets.empty(), image, frame=FRAME)
    assert nothing.mean.shape == (0, 2)


@given(st.integers(0, 2**32 - 1))
def test_pieces_add_up_to_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = _labels(rng)
    labels[labels == 5] = 0
    image = rng.random((*FRAME.shape, 2)) * 200
    tally = IntensityTally(8, 2)
    piece_of = rng.integers(0, 3, FRAME.shape)
    for number in range(3):
        part = np.where(piece_of == number, labels, 0).astype(np.int32)
        order = rng.permutation(8)
        every = PixelSets.from_labels(part, count=8, x0=FRAME.x0, y0=FRAME.y0)
        pieces = every.take(order)
        tally.add(order, pieces, measured=measure_intensities(pieces, image, frame=FRAME))
    whole = _measure(labels, image)
    for name in ("mean", "std", "min", "max"):
        found = getattr(tally.intensities, name)
        np.testing.assert_allclose(found, getattr(whole, name), rtol=1e-9, atol=1e-9)
        assert np.isnan(found[4]).all()


@pytest.mark.parametrize("run", [(19, 0, 1), (50, 0, 1), (30, -8, -6), (30, 32, 34)])
def test_an_object_that_reaches_out_of_the_image_is_refused(run: tuple[int, int, int]) -> None:
    pixels = PixelSets(offsets=np.array([0, 1]), runs=np.array([run], np.int32))
    image = np.zeros((*FRAME.shape, 1), np.uint8)
    with pytest.raises(RegionError, match="reaches out of the image"):
        measure_intensities(pixels, image, frame=FRAME)


@pytest.mark.parametrize("shape", [(30, 40), (40, 30, 3), (3, 30, 40)])
def test_an_image_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RegionError, match=r"\(y, x, c\)"):
        measure_intensities(PixelSets.empty(), np.zeros(shape, np.uint8), frame=FRAME)


@given(st.integers(0, 2**32 - 1))
def test_stain_densities_are_six_times_those_of_scikit_image(seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(1, 256, (9, 7, 3), dtype=np.uint8)
    found = stain_densities(rgb)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 6 * rgb2hed(rgb), atol=2e-6)


def test_white_has_no_stain_and_black_is_no_deeper_than_the_darkest_value() -> None:
    assert stain_densities(np.full((1, 3), 255, np.uint8)).tolist() == [[0, 0, 0]]
    black, dark = stain_densities(np.array([[0, 0, 0], [1, 1, 1]], np.uint8)).tolist()
    assert black == dark


@pytest.mark.parametrize("stain", [0, 1, 2])
def test_a_stain_alone_is_found_alone(stain: int) -> None:
    colours = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
    rgb = np.rint(255 * 10 ** (-0.8 * colours[stain])).astype(np.uint8)
    expected = [0.8 if number == stain else 0 for number in range(3)]
    assert stain_densities(rgb).tolist() == pytest.approx(expected, abs=0.01)
