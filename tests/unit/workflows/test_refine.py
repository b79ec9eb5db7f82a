"""A semantic model may end with a random field, which moves its borders to where colours change."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation
from slideloom.models.tile_model import TileBatch
from slideloom.postprocess.dense_crf import CrfSettings
from slideloom.testing import write_slide
from slideloom.workflows.config import RunConfig
from slideloom.workflows.refine import refined
from slideloom.workflows.run import run_slide

SIDE = 96
SETTINGS = {"appearance_px": 3.0, "smoothness_px": 1.0, "iterations": 2, "smoothness": 1.0}


class _Unsure:
    """Takes dark for the class, with little certainty, and is wrong at every seventh pixel."""

    def __init__(
        self,
        *,
        decode: Decode | None,
        overlapping: bool = False,
        tile_px: int = 64,
        halo_px: int = 20,
    ) -> None:
        self.spec = ModelSpec(
            name="unsure",
            task="semantic",
            architecture=None,
            classes=(ModelClass(name="dark", color=(200, 0, 0)),),
            overlapping=overlapping,
            mpp=0.5,
            tile_px=tile_px,
            halo_px=20,
            normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
            decode=decode,
            licence="none",
            training_data="none",
        )

    def predict(self, batch: TileBatch) -> NDArray[np.float32]:
        chance = np.where(batch.pixels[..., 0] < 128, 0.6, 0.4)
        for own, window in zip(chance, batch.windows, strict=True):
            y, x = np.mgrid[window.y0 : window.y1, window.x0 : window.x1]
            wrong = (3 * y + x) % 7 == 0
            own[wrong] = 1 - own[wrong]
        return np.stack([1 - chance, chance], axis=-1).astype(np.float32)


CRF = Decode(name="dense_crf", settings=SETTINGS)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.bool_]]:
    y, x = np.mgrid[:SIDE, :SIDE]
    dark = np.hypot(y - 45, x - 50) < 27
    rgb = np.where(dark[..., None], 60, 220).astype(np.uint8).repeat(3, axis=2)
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    write_slide(path, rgb, mpp=0.5)
    return path, dark


def _mask(model: _Unsure, path: Path, out: Path) -> NDArray[np.bool_]:
    result = run_slide(path, model, out=out, config=RunConfig(tissue=False, region_px=48))
    return np.asarray(np.asarray(result.mask) == 1, np.bool_)


def test_colours_correct_what_the_network_has_wrong(
    slide: tuple[Path, NDArray[np.bool_]], tmp_path: Path
) -> None:
    path, dark = slide
    plain = _mask(_Unsure(decode=None), path, tmp_path / "plain")
    better = _mask(_Unsure(decode=CRF), path, tmp_path / "better")
    assert 0.1 < (plain != dark).mean() < 0.2
    assert (better != dark).mean() < 0.01


def test_with_a_halo_of_its_reach_the_tiles_do_not_matter(
    slide: tuple[Path, NDArray[np.bool_]], tmp_path: Path
) -> None:
    assert CrfSettings(**SETTINGS).reach_px <= 20  # type: ignore[arg-type]
    path, _ = slide
    one = _mask(_Unsure(decode=CRF), path, tmp_path / "a")
    other = _mask(_Unsure(decode=CRF, tile_px=80), path, tmp_path / "b")
    assert np.array_equal(one, other)


def test_other_models_stay_as_they_are() -> None:
    model = _Unsure(decode=None)
    assert refined(model) is model


@pytest.mark.parametrize(
    ("decode", "overlapping", "said"),
    [
        (Decode(name="distance"), False, "'distance'"),
        (CRF, True, "overlapping"),
        (Decode(name="dense_crf", settings={"depth": 1}), False, "depth"),
        (Decode(name="dense_crf", settings={"smoothness": -1}), False, "nothing below 0"),
    ],
)
def test_what_cannot_be_refined_is_said(decode: Decode, overlapping: bool, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        refined(_Unsure(decode=decode, overlapping=overlapping))
