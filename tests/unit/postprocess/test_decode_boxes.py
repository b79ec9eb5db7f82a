"""Decodes of detectors: rows and centre maps become boxes or points, the same in every window."""

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding.boxes import SIZE_UNIT_PX, box_settings, decode_boxes

ROWS = np.array(
    [
        [2, 3, 10, 8, 0.9, 2],
        [0, 0, 0, 0, 0, 0],
        [5, 5, 4, 9, 0.8, 1],
        [1, 1, 2, 2, 0.2, 1],
        [np.nan, 1, 2, 2, 0.9, 1],
        [-4, 1, 7, 9, 0.4, 1],
    ],
    np.float32,
)


def test_rows_give_boxes_without_padding_faint_and_impossible_ones() -> None:
    found = decode_boxes(ROWS, name="boxes")
    assert found.boxes.tolist() == [[2, 3, 10, 8], [-4, 1, 7, 9]]
    assert found.boxes.dtype == np.float64
    assert found.class_id.tolist() == [1, 0]
    assert found.score.tolist() == pytest.approx([0.9, 0.4])


def test_points_are_the_centres_of_boxes() -> None:
    found = decode_boxes(ROWS[[0, 5]], name="boxes", settings={"points": 1, "threshold": 0})
    assert found.boxes.tolist() == [[6, 5.5, 6, 5.5], [1.5, 5, 1.5, 5]]
    point = np.array([[3.25, 4.5, 3.25, 4.5, 1, 1]])
    assert decode_boxes(point, name="boxes", settings={"points": 1}).boxes.tolist() == [
        [3.25, 4.5, 3.25, 4.5]
    ]
    assert not len(decode_boxes(point, name="boxes").boxes)


def _maps(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.broadcast_to([20 / SIZE_UNIT_PX, 10 / SIZE_UNIT_PX], (*heat.shape[:2], 2))
    return np.concatenate([heat, size], axis=2)


def test_centres_are_peaks_with_the_size_that_stands_there() -> None:
    heat = np.zeros((12, 16, 2))
    heat[4, 5, 0], heat[4, 6, 0] = 0.9, 0.6
    heat[9, 15, 1], heat[0, 0, 1] = 0.5, 0.3
    found = decode_boxes(_maps(heat), name="centres")
    assert found.boxes.tolist() == [[-4.5, -0.5, 15.5, 9.5], [5.5, 4.5, 25.5, 14.5]]
    assert found.class_id.tolist() == [0, 1]
    assert found.score.tolist() == pytest.approx([0.9, 0.5])


def test_two_classes_may_peak_in_one_place() -> None:
    heat = np.zeros((5, 5, 2))
    heat[2, 2] = 0.8, 0.7
    assert decode_boxes(_maps(heat), name="centres").class_id.tolist() == [0, 1]


def test_of_a_level_top_the_first_pixel_is_the_peak() -> None:
    heat = np.zeros((9, 9, 1))
    heat[3:6, 4:7] = 0.75
    found = decode_boxes(_maps(heat), name="centres", settings={"points": 1})
    assert found.boxes[:, :2].tolist() == [[4.5, 3.5]]


def _slow_peaks(layer: NDArray[np.float64], *, threshold: float, window_px: int) -> list[list[int]]:
    reach = window_px // 2
    out = []
    for y, x in np.ndindex(layer.shape):
        near = [
            ((v, u) < (y, x), layer[v, u])
            for v in range(max(0, y - reach), min(layer.shape[0], y + reach + 1))
            for u in range(max(0, x - reach), min(layer.shape[1], x + reach + 1))
            if (v, u) != (y, x)
        ]
        highest = all(
            layer[y, x] > value if before else layer[y, x] >= value for before, value in near
        )
        if layer[y, x] > threshold and highest:
            out.append([x, y])
    return out


@pytest.mark.parametrize("window_px", [3, 5, 7])
def test_peaks_equal_those_of_the_slow_twin_whichever_window_shows_them(window_px: int) -> None:
    rng = np.random.default_rng(window_px)
    layer = rng.integers(0, 6, (40, 50)) / 6
    settings = {"points": 1, "threshold": 0.4, "window_px": window_px}
    found = decode_boxes(_maps(layer[:, :, None]), name="centres", settings=settings)
    points = (found.boxes[:, :2] - 0.5).astype(int).tolist()
    assert points == _slow_peaks(layer, threshold=0.4, window_px=window_px)
    shifted = decode_boxes(_maps(layer[11:, 7:, None]), name="centres", settings=settings)
    moved = (shifted.boxes[:, :2] - 0.5 + [7, 11]).astype(int)
    reach = window_px // 2
    inside = [[x, y] for x, y in points if x >= 7 + reach and y >= 11 + reach]
    assert inside == [[x, y] for x, y in moved.tolist() if x >= 7 + reach and y >= 11 + reach]


def test_nothing_gives_nothing() -> None:
    for maps, name in ((np.zeros((0, 6)), "boxes"), (np.zeros((8, 8, 3)), "centres")):
        found = decode_boxes(maps, name=name)
        assert found.boxes.shape == (0, 4)
        assert found.class_id.dtype == np.int16
        assert found.score.dtype == np.float32


def test_wrong_shapes_and_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="rows"):
        decode_boxes(np.zeros((3, 5)), name="boxes")
    with pytest.raises(SettingsError, match=r"classes \+ 2"):
        decode_boxes(np.zeros((3, 5, 2)), name="centres")
    with pytest.raises(SettingsError, match="choose one of boxes, centres"):
        decode_boxes(np.zeros((3, 6)), name="rows")
    with pytest.raises(SettingsError, match="knows threshold"):
        box_settings("boxes", {"nms": 0.5})


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 1},
        {"threshold": -0.1},
        {"iou": 0},
        {"iou": 1.1},
        {"radius_px": 0},
        {"window_px": 4},
        {"window_px": 1},
        {"points": 2},
        {"agnostic": -1},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="correct the settings"):
        box_settings("centres", settings)
