"""The seam score of a result: 0 for a model that does not mind where its tile lies."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.tile_model import TileBatch
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows.config import RunConfig
from slideloom.workflows.run import run_slide


class _Forgetful:
    """Sees nothing in the left part of each window, as a network with bad edges would."""

    def __init__(self, model: PerfectTileModel, *, blind_px: int) -> None:
        self.spec = model.spec
        self._model = model
        self._blind_px = blind_px

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        maps = self._model.predict(batch).copy()
        if self.spec.task == "semantic" and not self.spec.overlapping:
            maps[:, :, : self._blind_px, 0] = 1
            maps[:, :, : self._blind_px, 1:] = 0
        else:
            maps[:, :, : self._blind_px] = 0
        return maps


def _score(
    slide_path: Path, out: Path, model: PerfectTileModel | _Forgetful, *, region_px: int
) -> float | None:
    config = RunConfig(tissue=False, region_px=region_px)
    return run_slide(slide_path, model, out=out, config=config).record.qa.seam_score


@pytest.mark.parametrize(
    ("task", "overlapping"), [("instance", False), ("semantic", False), ("semantic", True)]
)
def test_blind_edges_raise_the_score(
    slide_path: Path,
    scene: Scene,
    tmp_path: Path,
    *,
    task: Literal["instance", "semantic"],
    overlapping: bool,
) -> None:
    spec = perfect_spec(scene, task=task, tile_px=256, halo_px=32, overlapping=overlapping)
    model = PerfectTileModel(scene, spec=spec)
    assert _score(slide_path, tmp_path / "perfect", model, region_px=400) == 0
    # The left borders of cores are seen as long as less than the halo is blind.
    seen = _Forgetful(model, blind_px=31)
    assert _score(slide_path, tmp_path / "seen", seen, region_px=400) == 0
    blind = [
        _score(slide_path, tmp_path / str(px), _Forgetful(model, blind_px=40), region_px=px)
        for px in (200, 400, 4000)
    ]
    assert blind[0] is not None
    assert 0.3 < blind[0] < 0.8
    assert len(set(blind)) == 1


def test_one_tile_has_no_seam(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    side = max(scene.size.width, scene.size.height)
    spec = perfect_spec(scene, task="instance", tile_px=side + 20, halo_px=10)
    model = PerfectTileModel(scene, spec=spec)
    assert _score(slide_path, tmp_path, model, region_px=9999) is None


def test_a_score_is_the_share_of_places_that_differ(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    """Blind from one pixel into the core: at left borders the right-hand tile sees nothing."""
    spec = perfect_spec(scene, task="semantic", tile_px=256, halo_px=32, overlapping=False)
    blind = _Forgetful(PerfectTileModel(scene, spec=spec), blind_px=33)
    score = _score(slide_path, tmp_path, blind, region_px=400)
    truth = scene.labels > 0
    upright = [truth[:, x - 1 : x + 1].any(axis=1) for x in range(192, truth.shape[1], 192)]
    level = [truth[y - 1 : y + 1].any(axis=0) for y in range(192, truth.shape[0], 192)]
    assert score == pytest.approx(
        np.concatenate(upright).sum() / np.concatenate([*upright, *level]).sum(), abs=0.01
    )
