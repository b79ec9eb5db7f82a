"""Intervals against draws made one by one, and against theory."""

import numpy as np
import pytest

from slideloom.errors import SettingsError
from slideloom.postprocess.metrics.bootstrap import Resampling, bootstrap, total
from slideloom.postprocess.metrics.semantic import tally_labels

SETTINGS = Resampling(resamples=400, seed=3)


def test_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(5, 2, 200)
    settings = Resampling(resamples=4000)
    found = bootstrap(lambda c: c @ values / c.sum(axis=1), images=200, settings=settings)
    spread = 1.96 * values.std() / np.sqrt(200)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - spread, abs=0.03)
    assert found.high == pytest.approx(values.mean() + spread, abs=0.03)


def test_sums_of_tallies_equal_pooling_each_draw() -> None:
    rng = np.random.default_rng(1)
    truth, found = rng.integers(0, 3, (2, 6, 9, 9))
    pairs = list(zip(truth, found, strict=True))
    tallies = [tally_labels(t, f, classes=2) for t, f in pairs]
    seen: list[np.ndarray] = []

    def figure(counts: np.ndarray) -> np.ndarray:
        seen.append(counts)
        return total(tallies, counts).f1

    result = bootstrap(figure, images=6, settings=SETTINGS)
    draws = []
    for row in seen[1]:
        assert row.sum() == 6
        index = np.repeat(np.arange(6), row.astype(int))
        drawn = tally_labels(np.concatenate(truth[index]), np.concatenate(found[index]), classes=2)
        draws.append(drawn.f1)
    assert result.low == pytest.approx(np.quantile(draws, 0.025, axis=0))
    assert result.high == pytest.approx(np.quantile(draws, 0.975, axis=0))


def test_same_seed_same_interval() -> None:
    values = np.arange(10.0)

    def ends(seed: int) -> tuple[float, float]:
        found = bootstrap(
            lambda c: c @ values, images=10, settings=Resampling(resamples=50, seed=seed)
        )
        return float(found.low), float(found.high)

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)


def test_one_image_tells_no_spread() -> None:
    found = bootstrap(lambda c: c @ np.ones(1), images=1, settings=SETTINGS)
    assert found.value == 1
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_draws_without_a_figure_are_left_out() -> None:
    # Only image 0 has the class: draws without it tell nothing.
    def figure(counts: np.ndarray) -> np.ndarray:
        some = np.where(counts[:, 0] > 0, 0.5, np.nan)
        return np.column_stack([some, np.full(len(counts), np.nan)])

    found = bootstrap(figure, images=5, settings=SETTINGS)
    assert [found.low[0], found.high[0]] == [0.5, 0.5]
    assert np.isnan([found.value[1], found.low[1], found.high[1]]).all()


@pytest.mark.parametrize(("resamples", "confidence"), [(0, 0.95), (10, 1.0), (10, 0.0)])
def test_settings_must_make_sense(resamples: int, confidence: float) -> None:
    with pytest.raises(SettingsError, match="resamples >= 1"):
        Resampling(resamples=resamples, confidence=confidence)
