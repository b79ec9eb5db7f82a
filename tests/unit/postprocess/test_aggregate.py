"""Figures of a slide from its tiles, against sums over Python lists."""

import numpy as np
import pytest

from slideloom.postprocess.aggregate import SlideScore, score_slide


@pytest.mark.parametrize("count", [1, 20, 21, 400])
def test_figures_are_those_of_plain_lists(count: int) -> None:
    rng = np.random.default_rng(count)
    probabilities = rng.random((count, 3)).astype(np.float32)
    assigned = rng.random((count, 3)) < 0.4
    scores = score_slide(probabilities, assigned=assigned)
    assert len(scores) == 3
    for k, score in enumerate(scores):
        ranked = sorted(probabilities[:, k].tolist(), reverse=True)
        top = ranked[: max(1, -(-count // 20))]
        assert score.mean == pytest.approx(sum(ranked) / count, abs=1e-6)
        assert score.maximum == pytest.approx(ranked[0], abs=1e-6)
        assert score.top_mean == pytest.approx(sum(top) / len(top), abs=1e-6)
        assert score.share == pytest.approx(sum(assigned[:, k].tolist()) / count, abs=1e-6)


def test_one_certain_tile_is_seen_among_many() -> None:
    probabilities = np.zeros((40, 1), np.float32)
    probabilities[7] = 1
    (score,) = score_slide(probabilities, assigned=probabilities > 0.5)
    assert score == SlideScore(mean=0.025, maximum=1, top_mean=0.5, share=0.025)


def test_the_order_of_tiles_changes_no_figure() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.random((1000, 2)).astype(np.float32)
    assigned = probabilities > 0.5
    order = rng.permutation(1000)
    assert score_slide(probabilities[order], assigned=assigned[order]) == score_slide(
        probabilities, assigned=assigned
    )


def test_no_tile_gives_no_figure() -> None:
    none = np.zeros((0, 2), np.float32)
    assert score_slide(none, assigned=none > 0) == ()
