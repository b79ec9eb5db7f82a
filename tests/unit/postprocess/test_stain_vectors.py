"""Stain vectors against scikit-image, and against a plain form of Macenko's method."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import separate_stains

from slideloom.errors import SettingsError
from slideloom.postprocess.measure.intensity import stain_densities
from slideloom.postprocess.measure.stain_vectors import (
    STANDARD,
    StainBasis,
    estimate_stains,
)

Floats = NDArray[np.float64]


def _unit(*figures: float) -> Floats:
    return np.asarray(np.array(figures) / np.linalg.norm(figures))


def _angle_deg(one: object, two: object) -> float:
    cosine = np.dot(np.asarray(one, float), np.asarray(two, float))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _mixed(rng: np.random.Generator, vectors: Floats, *, noise: float = 1.0) -> NDArray[np.uint8]:
    """Pixels of glass, of either stain and of both, by the law of Beer and Lambert."""
    amounts = rng.gamma(2.0, 0.25, (40_000, 2)) * rng.choice(
        np.array([[0, 0], [1, 0.05], [0.05, 1], [1, 1]]), 40_000
    )
    light = 255 * 10 ** -(amounts @ vectors) + rng.normal(0, noise, (40_000, 3))
    return np.asarray(np.clip(np.rint(light), 0, 255), np.uint8)


def _plain_macenko(rgb: NDArray[np.uint8]) -> Floats:
    """The two vectors, haematoxylin first, step by step as the paper has them."""
    density = -np.log10(np.maximum(rgb.reshape(-1, 3), 1) / 255)
    density = density[np.sqrt((density**2).sum(axis=1)) >= 0.15]
    _, _, rows = np.linalg.svd(density, full_matrices=False)
    first, second = rows[0] * np.sign(rows[0].sum()), rows[1]
    angles = np.arctan2(density @ second, density @ first)
    found = [
        np.cos(angle) * first + np.sin(angle) * second for angle in np.percentile(angles, [1, 99])
    ]
    found.sort(key=lambda vector: _angle_deg(vector, _unit(*STANDARD.vectors[0])))
    return np.array(found)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_densities_are_those_of_scikit_image_for_any_vectors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = np.array(STANDARD.vectors) + rng.uniform(-0.1, 0.1, (3, 3))
    rgb = rng.integers(1, 256, (9, 7, 3), dtype=np.uint8)
    basis = StainBasis.of(STANDARD.names, vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = 6 * separate_stains(rgb, np.linalg.inv(unit))
    np.testing.assert_allclose(stain_densities(rgb, basis=basis), expected, rtol=1e-5, atol=1e-5)


def test_two_stains_leave_a_residual_of_either_sign() -> None:
    basis = StainBasis.of(("haematoxylin", "dab"), [[1.3, 1.4, 0.58], [0.27, 0.57, 0.78]])
    assert basis.names == ("haematoxylin", "dab", "residual")
    one, two, three = (np.array(vector) for vector in basis.vectors)
    np.testing.assert_allclose([one @ three, two @ three], 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(basis.vectors, axis=1), 1)
    for amounts in ([0.5, 0.2, 0.1], [0.5, 0.2, -0.1]):
        rgb = np.rint(255 * 10 ** -(np.array(amounts) @ basis.vectors)).astype(np.uint8)
        np.testing.assert_allclose(stain_densities(rgb, basis=basis), amounts, atol=0.01)


def test_a_pixel_of_the_background_or_brighter_has_no_stain() -> None:
    basis = StainBasis.of(STANDARD.names, STANDARD.vectors, background=(240, 230, 220.5))
    rgb = np.array([[240, 230, 221], [255, 255, 255], [24, 23, 22]], np.uint8)
    found = stain_densities(rgb, basis=basis)
    np.testing.assert_allclose(found[:2], 0, atol=1e-6)
    unit = np.array(STANDARD.vectors) / np.linalg.norm(STANDARD.vectors, axis=1, keepdims=True)
    expected = np.maximum([1, 1, 1] @ np.linalg.inv(unit), 0)
    np.testing.assert_allclose(found[2], expected, atol=0.01)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ([[0.6, 0.7, 0.3], [0, 0, 0]], "not all 0"),
        ([[0.6, 0.7, 0.3], [0.1, np.nan, 0.1]], "finite"),
        ([[0.6, 0.7, 0.3], [1.2, 1.4, 0.6]], "too alike"),
        ([[1, 0, 0], [0, 1, 0], [1, 1, 0]], "too alike"),
    ],
)
def test_vectors_that_cannot_be_solved_are_refused(vectors: list[list[float]], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        StainBasis.of(STANDARD.names[: len(vectors)], vectors)


@pytest.mark.parametrize("light", [(0, 255, 255), (255, 256, 255), (255, 255, np.nan)])
def test_a_background_that_no_pixel_has_is_refused(light: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="background"):
        StainBasis.of(STANDARD.names, STANDARD.vectors, background=light)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_estimate_is_that_of_the_plain_method(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = np.array([_unit(0.65, 0.70, 0.29), _unit(0.2, 0.85, 0.45)])
    rgb = _mixed(rng, vectors + rng.uniform(-0.05, 0.05, (2, 3)))
    found = estimate_stains(rgb)
    assert found is not None
    np.testing.assert_allclose(found.vectors[:2], _plain_macenko(rgb), atol=1e-9)


@pytest.mark.parametrize(
    "vectors",
    [
        [_unit(0.65, 0.70, 0.29), _unit(0.07, 0.99, 0.11)],
        [_unit(0.80, 0.53, 0.28), _unit(0.10, 0.86, 0.50)],
        [_unit(0.55, 0.75, 0.40), _unit(0.22, 0.80, 0.56)],
    ],
)
def test_vectors_of_a_made_picture_are_found_again(vectors: list[Floats]) -> None:
    for seed in range(3):
        rgb = _mixed(np.random.default_rng(seed), np.array(vectors))
        found = estimate_stains(rgb.reshape(200, 200, 3))
        assert found is not None
        assert found.names == ("haematoxylin", "eosin", "residual")
        assert _angle_deg(found.vectors[0], vectors[0]) < 3
        assert _angle_deg(found.vectors[1], vectors[1]) < 3


def test_glass_and_a_single_stain_have_no_estimate() -> None:
    rng = np.random.default_rng(0)
    glass = rng.integers(235, 256, (50_000, 3), dtype=np.uint8)
    assert estimate_stains(glass) is None
    assert estimate_stains(np.zeros((0, 3), np.uint8)) is None
    only = _mixed(rng, np.array([_unit(0.65, 0.7, 0.29)] * 2), noise=0)
    assert estimate_stains(only) is None
