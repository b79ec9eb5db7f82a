"""The dense random field beside the mean field over all pairs, its reach, and what it is for."""

from dataclasses import replace
from math import exp

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.dense_crf import CrfSettings, refine_probabilities

SETTINGS = CrfSettings(
    appearance=4, appearance_px=3, appearance_rgb=20, smoothness=2, smoothness_px=2, iterations=3
)


def a_case(height: int, width: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    random = np.random.default_rng(5)
    probabilities = random.random((height, width, classes), np.float32) + 0.1
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    pixels = random.integers(100, 160, (height, width, 3), np.uint8)
    return probabilities, pixels


def pair_kernels(
    pixels: NDArray[np.uint8], settings: CrfSettings, *, radii: tuple[float, float]
) -> list[NDArray[np.float64]]:
    """Both kernels of equation 3 between all pixels, normalised from both sides, and weighted."""
    height, width = pixels.shape[:2]
    places = [(y, x) for y in range(height) for x in range(width)]
    kernels = [np.zeros((len(places), len(places))) for _ in range(2)]
    for one, (y, x) in enumerate(places):
        for other, (row, column) in enumerate(places):
            away = max(abs(row - y), abs(column - x))
            squares = (row - y) ** 2 + (column - x) ** 2
            colours = ((pixels[y, x].astype(float) - pixels[row, column]) ** 2).sum()
            place = squares / (2 * settings.appearance_px**2)
            colour = colours / (2 * settings.appearance_rgb**2)
            if 0 < away <= radii[0]:
                kernels[0][one, other] = exp(-place - colour)
            if 0 < away <= radii[1]:
                kernels[1][one, other] = exp(-squares / (2 * settings.smoothness_px**2))
    for kernel, weight in zip(kernels, (settings.appearance, settings.smoothness), strict=True):
        norm = np.sqrt(kernel.sum(axis=1))
        kernel *= weight / np.outer(norm, norm)
    return kernels


def brute_force(
    probabilities: NDArray[np.float32],
    pixels: NDArray[np.uint8],
    settings: CrfSettings,
    *,
    radii: tuple[float, float],
) -> NDArray[np.float64]:
    """Algorithm 1 of the paper with the Potts penalty, over all pairs of pixels."""
    kernels = pair_kernels(pixels, settings, radii=radii)
    classes = probabilities.shape[2]
    unary = -np.log(probabilities.reshape(-1, classes).astype(float))
    potts = 1 - np.eye(classes)
    belief = np.exp(-unary) / np.exp(-unary).sum(axis=1, keepdims=True)
    for _ in range(settings.iterations):
        penalty = sum(kernel @ belief for kernel in kernels) @ potts
        belief = np.exp(-unary - penalty)
        belief /= belief.sum(axis=1, keepdims=True)
    result: NDArray[np.float64] = belief.reshape(probabilities.shape)
    return result


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("height", "width"), [(12, 9), (3, 20), (1, 14)])
def test_equals_the_mean_field_over_all_pairs(height: int, width: int, classes: int) -> None:
    probabilities, pixels = a_case(height, width, classes)
    expected = brute_force(probabilities, pixels, SETTINGS, radii=(6, 4))
    found = refine_probabilities(probabilities, pixels, settings=SETTINGS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.abs(found - probabilities).max() > 0.1


def test_equals_the_untruncated_field_where_kernels_are_wide() -> None:
    # The paper's own field: every pixel is within reach of every other.
    probabilities, pixels = a_case(9, 10, 2)
    settings = replace(SETTINGS, appearance_px=5, smoothness_px=5)
    expected = brute_force(probabilities, pixels, settings, radii=(99, 99))
    found = refine_probabilities(probabilities, pixels, settings=settings)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_pixels_out_of_reach_change_nothing() -> None:
    probabilities, pixels = a_case(8, 80, 2)
    reach = SETTINGS.reach_px
    assert reach == 6 * 4
    whole = refine_probabilities(probabilities, pixels, settings=SETTINGS)
    cut = refine_probabilities(probabilities[:, :60], pixels[:, :60], settings=SETTINGS)
    inside = 60 - reach
    np.testing.assert_allclose(whole[:, :inside], cut[:, :inside], atol=1e-6)
    assert np.abs(whole[:, :60] - cut).max() > 1e-3


def test_reach_is_no_longer_than_it_must_be() -> None:
    probabilities, pixels = a_case(1, 60, 2)
    settings = replace(SETTINGS, iterations=1)
    whole = refine_probabilities(probabilities, pixels, settings=settings)
    pixels[0, 50] += 50
    changed = refine_probabilities(probabilities, pixels, settings=settings)
    moved = np.flatnonzero(np.abs(whole - changed).max(axis=(0, 2)) > 1e-9)
    assert 50 - moved.min() == settings.reach_px


def test_a_blurred_mask_snaps_to_the_edge_of_the_picture() -> None:
    # Purple left of column 20, pink right of it; the network found the border three pixels off.
    random = np.random.default_rng(3)
    pixels = np.full((40, 40, 3), (230, 180, 210), np.uint8)
    pixels[:, :20] = (110, 60, 140)
    pixels += random.integers(0, 12, pixels.shape, np.uint8)
    ramp = 1 / (1 + np.exp((np.arange(40) - 22.5) / 2))
    inside = np.broadcast_to(ramp, (40, 40)) + random.normal(0, 0.15, (40, 40))
    inside = np.clip(inside, 0.02, 0.98)
    probabilities = np.stack([1 - inside, inside], axis=2).astype(np.float32)
    refined = refine_probabilities(probabilities, pixels, settings=CrfSettings())
    truth = np.arange(40) < 20
    before = (probabilities.argmax(axis=2) != truth).sum()
    after = (refined.argmax(axis=2) != truth).sum()
    assert before > 100
    assert after < 0.1 * before


def test_weights_of_zero_leave_the_probabilities() -> None:
    probabilities, pixels = a_case(6, 7, 3)
    for settings in (
        replace(SETTINGS, appearance=0, smoothness=0),
        replace(SETTINGS, iterations=0),
    ):
        found = refine_probabilities(probabilities, pixels, settings=settings)
        np.testing.assert_allclose(found, probabilities, atol=1e-6)
    assert replace(SETTINGS, iterations=0).reach_px == 0


def test_certain_and_lonely_pixels_stay_finite() -> None:
    probabilities = np.zeros((1, 2, 2), np.float32)
    probabilities[..., 0] = 1
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    for shown in (pixels, pixels[:, :1]):
        found = refine_probabilities(
            probabilities[:, : shown.shape[1]], shown, settings=CrfSettings()
        )
        assert bool(np.isfinite(found).all())
        assert bool((found[..., 0] > 0.99).all())


def test_empty_pictures() -> None:
    for shape in ((0, 5), (5, 0)):
        found = refine_probabilities(
            np.zeros((*shape, 2), np.float32),
            np.zeros((*shape, 3), np.uint8),
            settings=CrfSettings(),
        )
        assert found.shape == (*shape, 2)


@pytest.mark.parametrize(
    ("height", "channels", "dtype"), [(5, 3, np.uint8), (4, 4, np.uint8), (4, 3, np.float32)]
)
def test_pixels_must_be_those_of_the_probabilities(
    height: int, channels: int, dtype: type[np.generic]
) -> None:
    pixels = np.zeros((height, 6, channels), dtype)
    with pytest.raises(SettingsError, match="of the same size"):
        refine_probabilities(
            np.full((4, 6, 2), 0.5, np.float32),
            pixels,
            settings=CrfSettings(),
        )


@pytest.mark.parametrize(
    "change",
    [{"appearance_px": 0.0}, {"appearance_rgb": -1.0}, {"smoothness": -1.0}, {"iterations": -1}],
)
def test_settings_that_make_no_sense(change: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="standard deviations above 0"):
        replace(SETTINGS, **change)  # type: ignore[arg-type]
