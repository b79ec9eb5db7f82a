"""The perfect model answers with the truth of its window, cut, and with ids nobody can lean on."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.models.tile_model import TileBatch, TileModel
from slideloom.testing import PerfectTileModel, Scene, make_scene, perfect_spec
from slideloom.tiling.grid import TileGrid
from slideloom.wsi.geometry import Box, Size

TILE = 128


@pytest.fixture(scope="module")
def scene() -> Scene:
    size = Size(width=500, height=420)
    return make_scene(size=size, mpp=0.25, seed=6, large_objects=2, large_object_um=50)


@pytest.fixture
def model(scene: Scene) -> PerfectTileModel:
    return PerfectTileModel(
        scene, spec=perfect_spec(scene, task="instance", tile_px=TILE, halo_px=16)
    )


def batch_of(*windows: Box) -> TileBatch:
    return TileBatch(pixels=np.zeros((len(windows), TILE, TILE, 3), np.uint8), windows=windows)


def square(x0: int, y0: int) -> Box:
    return Box(x0=x0, y0=y0, x1=x0 + TILE, y1=y0 + TILE)


def pieces_of(labels: NDArray[np.int32]) -> list[NDArray[np.bool_]]:
    """Every 4-connected piece of every object, one mask each."""
    out = []
    for value in np.unique(labels[labels > 0]):
        pieces, count = ndimage.label(labels == value)
        out += [pieces == number for number in range(1, count + 1)]
    return out


WINDOWS = [square(0, 0), square(-30, -50), square(200, 150), square(440, 380), square(77, 211)]


@pytest.mark.parametrize("window", WINDOWS)
def test_each_piece_in_a_window_is_its_own_instance(
    model: PerfectTileModel, scene: Scene, window: Box
) -> None:
    (answer,) = model.predict(batch_of(window))
    ids, classes = answer[..., 0], answer[..., 1]
    pieces = pieces_of(scene.labels_in(window))
    assert np.array_equal(np.unique(ids[ids > 0]), np.arange(1, len(pieces) + 1))
    for piece in pieces:
        (value,) = np.unique(ids[piece])
        assert np.array_equal(ids == value, piece)
    assert np.array_equal(classes, scene.classes_in(window))


def test_an_object_cut_in_two_by_its_window_has_two_ids(scene: Scene) -> None:
    cut = [
        window
        for x0 in range(-60, 480, 20)
        for y0 in range(-60, 400, 20)
        if len(pieces_of(scene.labels_in(window := square(x0, y0))))
        > len(np.unique(scene.labels_in(window))) - 1
    ]
    assert cut, "the scene shows no object that a window cuts in two"
    spec = perfect_spec(scene, task="instance", tile_px=TILE, halo_px=16)
    (answer,) = PerfectTileModel(scene, spec=spec).predict(batch_of(cut[0]))
    assert answer[..., 0].max() == len(pieces_of(scene.labels_in(cut[0])))


def test_ids_repeat_for_a_window_and_differ_between_windows(
    model: PerfectTileModel, scene: Scene
) -> None:
    first, again, moved = model.predict(batch_of(square(9, 9), square(9, 9), square(10, 9)))
    assert np.array_equal(first, again)
    here, there = first[:, 1:, 0], moved[:, :-1, 0]
    inside = (here > 0) & (there > 0)
    assert inside.any()
    assert np.mean(here[inside] == there[inside]) < 0.5
    # Nor do they follow the scene's order.
    labels = scene.labels_in(square(9, 9))
    values, first_at = np.unique(labels, return_index=True)
    order = first[..., 0].ravel()[first_at][values > 0]
    assert np.any(np.diff(order) < 0)


def test_outside_the_slide_there_is_nothing(model: PerfectTileModel) -> None:
    (answer,) = model.predict(batch_of(square(5000, 5000)))
    assert answer.shape == (TILE, TILE, 2)
    assert answer.dtype == np.int32
    assert not answer.any()


def test_semantic_answers_are_one_hot(scene: Scene) -> None:
    window = square(60, 70)
    truth = scene.classes_in(window)
    spec = perfect_spec(scene, task="semantic", tile_px=TILE, halo_px=16)
    (exclusive,) = PerfectTileModel(scene, spec=spec).predict(batch_of(window))
    assert exclusive.dtype == np.float32
    assert exclusive.shape == (TILE, TILE, 3)
    assert np.array_equal(exclusive.argmax(axis=-1), truth)
    assert np.all(exclusive.sum(axis=-1) == 1)
    spec = perfect_spec(scene, task="semantic", tile_px=TILE, halo_px=16, overlapping=True)
    (overlapping,) = PerfectTileModel(scene, spec=spec).predict(batch_of(window))
    assert np.array_equal(overlapping, exclusive[..., 1:])


def detector(scene: Scene, *, points: bool = False) -> PerfectTileModel:
    spec = perfect_spec(scene, task="detection", tile_px=TILE, halo_px=16, points=points)
    return PerfectTileModel(scene, spec=spec)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_detector_gives_the_box_of_each_piece(scene: Scene, window: Box) -> None:
    (rows,) = detector(scene).predict(batch_of(window))
    classes = scene.classes_in(window)
    expected = []
    for piece in pieces_of(scene.labels_in(window)):
        y, x = np.nonzero(piece)
        box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
        expected.append([*map(float, box), 1.0, float(classes[y[0], x[0]])])
    assert rows.dtype == np.float32
    assert sorted(rows.tolist()) == sorted(expected)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_detector_of_points_gives_the_centroids_in_the_window(scene: Scene, window: Box) -> None:
    (rows,) = detector(scene, points=True).predict(batch_of(window))
    expected = []
    for value in range(1, len(scene) + 1):
        y, x = (float(place.mean()) + 0.5 for place in np.nonzero(scene.labels == value))
        if window.x0 <= x < window.x1 and window.y0 <= y < window.y1:
            expected.append([x - window.x0, y - window.y0, float(scene.class_id[value - 1])])
    np.testing.assert_allclose(
        sorted(rows[:, [0, 1, 5]].tolist()), sorted(expected), rtol=0, atol=1e-4
    )
    assert np.array_equal(rows[:, :2], rows[:, 2:4])


def test_a_detectors_rows_are_shuffled_and_filled_up(scene: Scene) -> None:
    model = detector(scene)
    rows, empty = model.predict(batch_of(square(9, 9), square(5000, 5000)))
    assert not empty.any()
    assert len(empty) == len(rows)
    assert np.array_equal(model.predict(batch_of(square(9, 9)))[0], rows)
    assert np.any(np.diff(rows[:, 1]) < 0)
    assert model.predict(batch_of()).shape == (0, 0, 6)


def test_the_spec_is_the_scenes(scene: Scene) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=TILE, halo_px=16)
    assert (spec.mpp, spec.classes, spec.core_px) == (0.25, scene.classes, TILE - 32)
    assert spec.architecture is None
    assert spec.decode is not None
    assert spec.decode.name == "labels"
    assert perfect_spec(scene, task="semantic", tile_px=TILE, halo_px=0).decode is None


def test_calls_show_each_tile_once(model: PerfectTileModel, scene: Scene) -> None:
    answers: TileModel = model
    grid = TileGrid(extent=scene.size, core_px=96, halo_px=16, mpp=scene.mpp)
    assert not model.calls
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda tile: answers.predict(batch_of(tile.window)), grid))
    assert model.calls == dict.fromkeys((tile.window for tile in grid), 1)
    answers.predict(batch_of(grid[next(iter(grid)).index].window))
    assert max(model.calls.values()) == 2


def test_an_empty_batch_has_an_empty_answer(model: PerfectTileModel, scene: Scene) -> None:
    assert model.predict(batch_of()).shape == (0, TILE, TILE, 2)
    spec = perfect_spec(scene, task="semantic", tile_px=TILE, halo_px=16)
    assert PerfectTileModel(scene, spec=spec).predict(batch_of()).shape == (0, TILE, TILE, 3)


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_tile_is_classified_by_the_pixels_of_its_core(scene: Scene, *, overlapping: bool) -> None:
    spec = perfect_spec(
        scene, task="classification", tile_px=TILE, halo_px=16, overlapping=overlapping
    )
    model = PerfectTileModel(scene, spec=spec)
    answers = model.predict(batch_of(*WINDOWS))
    assert answers.shape == (len(WINDOWS), 1, 1, 2)
    assert answers.dtype == np.float32
    for answer, window in zip(answers[:, 0, 0], WINDOWS, strict=True):
        core = scene.classes_in(window)[16:-16, 16:-16]
        pixels = [int((core == 1).sum()), int((core == 2).sum())]
        if overlapping:
            expected = [each / core.size for each in pixels]
        else:
            expected = [(each + 1) / (sum(pixels) + 2) for each in pixels]
        assert answer.tolist() == pytest.approx(expected)
    assert len(np.unique(answers)) > len(WINDOWS)
    assert model.predict(batch_of()).shape == (0, 1, 1, 2)


def test_it_pickles(model: PerfectTileModel) -> None:
    again = pickle.loads(pickle.dumps(model))
    assert again.spec == model.spec
    assert np.array_equal(again.predict(batch_of(*WINDOWS)), model.predict(batch_of(*WINDOWS)))


def test_a_spec_that_is_not_the_scenes_is_refused(scene: Scene) -> None:
    spec = perfect_spec(scene, task="semantic", tile_px=TILE, halo_px=16)
    for other in ({"mpp": 0.5}, {"classes": scene.classes[:1]}):
        with pytest.raises(SettingsError, match="perfect_spec"):
            PerfectTileModel(scene, spec=spec.model_copy(update=other))
