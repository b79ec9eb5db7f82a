"""The imperfect model errs as much as it says, the same way each time, and breaks no object."""

import pickle

import numpy as np
import pytest
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.models.spec import Decode, ModelSpec
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.testing import ImperfectTileModel, Scene, TileNoise, make_scene, perfect_spec
from slideloom.testing.imperfect import border_depths
from slideloom.wsi.geometry import Box, Size

TILE = 128
WINDOWS = tuple(
    Box(x0=x, y0=y, x1=x + TILE, y1=y + TILE) for x, y in ((0, 0), (-16, 80), (380, 300))
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    size = Size(width=500, height=420)
    return make_scene(size=size, mpp=0.25, seed=6, large_objects=2, large_object_um=50)


@pytest.fixture(scope="module")
def spec(scene: Scene) -> ModelSpec:
    return perfect_spec(scene, task="instance", tile_px=TILE, halo_px=16)


def _batch(*windows: Box) -> TileBatch:
    return TileBatch(pixels=np.zeros((len(windows), TILE, TILE, 3), np.uint8), windows=windows)


def test_without_noise_it_sees_the_truth(scene: Scene, spec: ModelSpec) -> None:
    model: TileModel = ImperfectTileModel(scene, spec=spec, noise=TileNoise())
    for window, answer in zip(WINDOWS, model.predict(_batch(*WINDOWS)), strict=True):
        truth = scene.labels_in(window)
        np.testing.assert_array_equal(answer[..., 1], scene.classes_in(window))
        pairs = np.unique(np.stack([answer[..., 0], truth])[:, truth > 0], axis=1)
        assert len(set(pairs[0].tolist())) == pairs.shape[1]
        assert not answer[..., 0][truth == 0].any()


@pytest.mark.parametrize("jitter_px", [1, 2, 4])
def test_borders_move_by_no_more_than_the_jitter(
    scene: Scene, spec: ModelSpec, jitter_px: int
) -> None:
    model = ImperfectTileModel(scene, spec=spec, noise=TileNoise(jitter_px=jitter_px))
    for window in WINDOWS:
        seen, truth = model.look(window), scene.labels_in(window.grow(jitter_px))
        assert (seen != scene.labels_in(window)).mean() > 0.003
        for value in np.unique(seen[seen > 0]).tolist():
            # In the plane each coordinate moves by up to the jitter.
            square = np.ones((2 * jitter_px + 1,) * 2)
            near = ndimage.binary_dilation(truth == value, square)
            inside = near[jitter_px:-jitter_px, jitter_px:-jitter_px]
            assert not ((seen == value) & ~inside).any()


def test_no_object_falls_apart_or_vanishes(scene: Scene, spec: ModelSpec) -> None:
    model = ImperfectTileModel(scene, spec=spec, noise=TileNoise(jitter_px=3))
    for window in WINDOWS:
        seen, truth = model.look(window), scene.labels_in(window)
        for value in np.unique(truth[truth > 0]).tolist():
            pieces = ndimage.label(truth == value)[1]
            assert 1 <= ndimage.label(seen == value)[1] <= pieces


def test_a_faint_object_is_missed_whole_by_some_windows(scene: Scene, spec: ModelSpec) -> None:
    noise = TileNoise(faint_share=0.5, faint_px=1500, drop_chance=0.5, seed=3)
    model = ImperfectTileModel(scene, spec=spec, noise=noise)
    assert 0 < model.faint.sum() < len(scene)
    assert (scene.areas_px[model.faint] <= 1500).all()
    for window in WINDOWS:
        missed = np.concatenate([[False], model.misses(window)])
        truth = scene.labels_in(window)
        np.testing.assert_array_equal(model.look(window), np.where(missed[truth], 0, truth))
        assert not missed[1:][~model.faint].any()
    assert (model.misses(WINDOWS[0]) != model.misses(WINDOWS[1])).any()


def test_noise_hangs_on_the_window_and_the_seed_alone(scene: Scene, spec: ModelSpec) -> None:
    noise = TileNoise(jitter_px=2, faint_share=0.5, seed=3)
    model = ImperfectTileModel(scene, spec=spec, noise=noise)
    model.predict(_batch(*WINDOWS[1:]))
    other = pickle.loads(pickle.dumps(ImperfectTileModel(scene, spec=spec, noise=noise)))
    np.testing.assert_array_equal(
        model.predict(_batch(WINDOWS[0])), other.predict(_batch(WINDOWS[0]))
    )
    seeds = [
        ImperfectTileModel(scene, spec=spec, noise=TileNoise(jitter_px=2, seed=seed))
        for seed in (1, 2)
    ]
    assert (seeds[0].look(WINDOWS[0]) != seeds[1].look(WINDOWS[0])).any()


def test_probabilities_show_what_is_faint_and_differ_in_last_bits(
    scene: Scene, spec: ModelSpec
) -> None:
    soft = spec.model_copy(update={"decode": Decode(name="distance")})
    noise = TileNoise(faint_share=0.5, faint_px=10**6, drop_chance=0, last_bit=True)
    model = ImperfectTileModel(scene, spec=soft, noise=noise)
    (one,), (two,) = model.predict(_batch(WINDOWS[0])), model.predict(_batch(WINDOWS[0]))
    assert one.dtype == np.float32
    assert one.shape == (TILE, TILE, len(scene.classes) + 1)
    assert (one != two).any()
    np.testing.assert_allclose(one, two, rtol=1e-6)
    truth = scene.labels_in(WINDOWS[0])
    faint = np.concatenate([[False], model.faint])[truth]
    top = one[..., :-1].max(axis=-1)
    assert top[faint].max() < top[(truth > 0) & ~faint].min()
    assert top[truth == 0].max() < 0.5
    np.testing.assert_array_equal(one[..., -1] > 0, truth > 0)


def test_the_depth_of_objects() -> None:
    labels = np.zeros((12, 20), np.int32)
    labels[2:7, 2:9] = 1
    labels[2:7, 9:10] = 2
    labels[10, 15] = 3
    depths = border_depths(labels, count=3)
    assert depths.tolist() == pytest.approx([3, 1, 1], abs=0.2)


def test_an_image_of_nothing_has_no_depths() -> None:
    assert border_depths(np.zeros((3, 4), np.int32), count=0).shape == (0,)


@pytest.mark.parametrize(
    "change", [{"jitter_px": -1}, {"faint_px": -1}, {"faint_share": 1.1}, {"drop_chance": -0.1}]
)
def test_noise_out_of_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="tile noise needs"):
        TileNoise(**change)  # type: ignore[arg-type]


def test_another_spec_is_refused(scene: Scene, spec: ModelSpec) -> None:
    semantic = perfect_spec(scene, task="semantic", tile_px=TILE, halo_px=16)
    for wrong in (semantic, spec.model_copy(update={"mpp": 0.3})):
        with pytest.raises(SettingsError, match="perfect_spec"):
            ImperfectTileModel(scene, spec=wrong, noise=TileNoise())
    other = spec.model_copy(update={"decode": Decode(name="hover")})
    with pytest.raises(SettingsError, match="labels or distance"):
        ImperfectTileModel(scene, spec=other, noise=TileNoise())
