"""A picture of a scene is stained where the truth says so, and the same for every box."""

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.testing import Scene, make_scene, render, render_scene
from slideloom.testing._layout import PITCH_UM
from slideloom.testing._noise import NoiseTile, sample
from slideloom.testing._shapes import Look
from slideloom.wsi.geometry import Box, Size


@pytest.fixture(scope="module")
def scene() -> Scene:
    size = Size(width=1100, height=620)
    return make_scene(size=size, mpp=0.25, seed=8, large_objects=1, large_object_um=80)


@pytest.fixture(scope="module")
def picture(scene: Scene) -> NDArray[np.uint8]:
    return render_scene(scene)


@pytest.mark.parametrize(
    "box",
    [
        Box(x0=500, y0=490, x1=530, y1=540),
        Box(x0=0, y0=0, x1=1, y1=1),
        Box(x0=3, y0=600, x1=1100, y1=620),
    ],
)
def test_pixels_do_not_depend_on_the_box(
    scene: Scene, picture: NDArray[np.uint8], box: Box
) -> None:
    part = render_scene(scene, box=box)
    assert np.array_equal(part, picture[box.y0 : box.y1, box.x0 : box.x1])


def test_no_seam_shows_between_blocks(
    scene: Scene, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "BLOCK_PX", 181)
    other = render_scene(scene)
    assert np.abs(other.astype(int) - picture).max() <= 1


def test_outside_the_slide_is_empty_glass(scene: Scene, picture: NDArray[np.uint8]) -> None:
    part = render_scene(scene, box=Box(x0=-30, y0=-20, x1=40, y1=50))
    assert part.shape == (70, 70, 3)
    assert np.ptp(part[:20].reshape(-1, 3), axis=0).tolist() == [0, 0, 0]
    assert part[0, 0].min() > 235
    assert np.array_equal(part[20:, 30:], picture[:50, :40])
    assert render_scene(scene, box=Box(x0=5, y0=5, x1=5, y1=9)).shape == (4, 0, 3)


def test_the_same_seed_gives_the_same_picture_and_another_one_another_stain() -> None:
    size = Size(width=256, height=256)
    first, again, other = (
        render_scene(make_scene(size=size, mpp=0.5, seed=seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_nuclei_are_dark_and_blue_and_glass_is_white(
    scene: Scene, picture: NDArray[np.uint8]
) -> None:
    red, _, blue = (picture[..., channel].astype(float) for channel in range(3))
    look = np.concatenate([[255], scene.look])[scene.labels]
    nuclei = look < Look.GLAND
    tissue = (look == 255) & (picture.min(axis=2) < 215)
    assert red[nuclei].mean() < red[tissue].mean() - 50
    assert (blue - red)[nuclei].mean() > 15
    assert (blue - red)[tissue].mean() < 0
    assert red[look == Look.LYMPHOCYTE].mean() < red[look == Look.TUMOUR].mean() - 15
    glass = picture.min(axis=2) > 230
    assert 0.03 < glass.mean() < 0.5
    assert not np.any(glass & nuclei)


@pytest.mark.parametrize("mpp", [0.1, 1.0, 4.0])
def test_any_resolution_renders(mpp: float) -> None:
    drawn = make_scene(size=Size(width=90, height=130), mpp=mpp, seed=1)
    picture = render_scene(drawn)
    assert picture.shape == (130, 90, 3)
    assert picture.std() > 5


def test_noise_repeats_in_every_direction() -> None:
    rng = np.random.default_rng(0)
    tile = NoiseTile(rng, feature_um=0.5, mpp=0.25, period_px=101, span_px=60)
    here = tile.at(Box(x0=-20, y0=70, x1=40, y1=110))
    there = tile.at(Box(x0=-20 + 303, y0=70 - 202, x1=40 + 303, y1=110 - 202))
    assert here.shape == (40, 60)
    assert np.array_equal(here, there)
    assert not np.array_equal(here, tile.at(Box(x0=-20, y0=70, x1=40, y1=110), shift=5))


def test_sampling_a_ramp_gives_the_ramp() -> None:
    # A cubic B-spline reproduces straight lines, so the place of every pixel is exact.
    y, x = np.mgrid[:40, :50].astype(np.float32)
    box = Box(x0=30, y0=24, x1=230, y1=124)
    found = sample(2 * y - x, box, mpp=0.5)
    rows = (np.arange(24, 124) + 0.5) * 0.5 / PITCH_UM
    cols = (np.arange(30, 230) + 0.5) * 0.5 / PITCH_UM
    assert np.allclose(found, 2 * rows[:, None] - cols, atol=1e-4)


def test_sampling_beyond_the_map_goes_on_with_its_edge() -> None:
    field = np.full((6, 7), 2.5, dtype=np.float32)
    found = sample(field, Box(x0=-100, y0=-90, x1=400, y1=10), mpp=1.0)
    assert np.allclose(found, 2.5, atol=1e-5)
