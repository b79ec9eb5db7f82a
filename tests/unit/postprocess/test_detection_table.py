"""The table of boxes and points: sizes, places and flags from the boxes alone."""

import uuid

import numpy as np
import pytest
import shapely

from slideloom.postprocess.detection.detections import Detections
from slideloom.postprocess.detection.table import detection_members, tabulate_detections
from slideloom.postprocess.measure.table import Roi, Scale
from slideloom.wsi.geometry import Size

# Two level-0 pixels to a model pixel.
SCALE = Scale(extent=Size(width=100, height=80), mpp=0.5, slide_mpp=0.25)
NAMES = ("cell", "gland")


def _found(*boxes: tuple[float, float, float, float]) -> Detections:
    count = len(boxes)
    return Detections(
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
        class_id=(np.arange(count) % 2).astype(np.int16),
        score=np.linspace(0.25, 1, count, dtype=np.float32),
        recombined=np.arange(count) == 1,
    )


BOXES = _found((10, 20, 14, 30), (90, 1, 99.5, 4), (0.5, 40, 9, 50))
POINTS = _found((12, 25, 12, 25), (99.5, 2, 99.5, 2))


def test_boxes_have_sizes_in_micrometres_and_places_in_level_0_pixels() -> None:
    table = tabulate_detections(BOXES, scale=SCALE, class_names=NAMES, seed="s", points=False)
    assert shapely.bounds(table.geometry.to_numpy())[0].tolist() == [20, 40, 28, 60]
    assert table["class"].tolist() == ["cell", "gland", "cell"]
    assert table["area_um2"].tolist() == [10, 9.5 * 3 / 4, 21.25]
    assert table["bbox_width_um"].tolist() == [2, 4.75, 4.25]
    assert table["bbox_height_um"].tolist() == [5, 1.5, 5]
    assert table["centroid_x_px"].tolist() == [24, 189.5, 9.5]
    assert table["centroid_y_px"].tolist() == [50, 5, 90]
    assert table["at_slide_border"].tolist() == [False, True, True]
    assert table["recombined"].tolist() == [False, True, False]
    assert not table["at_roi_border"].any()
    assert table["score"].dtype == np.float32
    assert table.attrs == {"mpp": 0.25}
    assert table.crs is None


def test_points_have_no_size() -> None:
    table = tabulate_detections(POINTS, scale=SCALE, class_names=NAMES, seed="s", points=True)
    assert [(shape.x, shape.y) for shape in table.geometry] == [(24, 50), (199, 4)]
    assert table["area_um2"].tolist() == [0, 0]
    assert "bbox_width_um" not in table
    assert table["at_slide_border"].tolist() == [False, True]


def test_ids_follow_from_seed_class_and_place() -> None:
    def ids(found: Detections, seed: str) -> list[str]:
        table = tabulate_detections(found, scale=SCALE, class_names=NAMES, seed=seed, points=False)
        names: list[str] = table["id"].tolist()
        return names

    first = ids(BOXES, "s")
    assert all(uuid.UUID(name).version == 5 for name in first)
    assert len(set(first)) == 3
    assert ids(BOXES.take(np.array([2, 0])), "s") == [first[2], first[0]]
    assert not set(ids(BOXES, "t")) & set(first)


@pytest.mark.parametrize("points", [False, True])
def test_no_detections_give_the_same_columns(points: bool) -> None:
    tables = [
        tabulate_detections(found, scale=SCALE, class_names=NAMES, seed="s", points=points)
        for found in (Detections.empty(), POINTS if points else BOXES)
    ]
    assert tables[0].dtypes.equals(tables[1].dtypes)
    assert len(tables[0]) == 0


def test_a_detection_belongs_to_the_roi_that_holds_its_centre() -> None:
    rois = (
        Roi(name="left", geometry=shapely.box(0, 0, 23, 200)),
        Roi(name="all", geometry=shapely.box(0, 0, 200, 160)),
    )
    members = detection_members(BOXES, scale=SCALE, rois=rois)
    assert members.tolist() == [[False, False, True], [True, True, True]]
    assert detection_members(BOXES, scale=SCALE, rois=()).shape == (0, 3)
    table = tabulate_detections(
        BOXES, scale=SCALE, class_names=NAMES, seed="s", rois=rois, points=False
    )
    # The first reaches across x = 23; the others' boxes end 1 px from the edges of the slide.
    assert table["at_roi_border"].tolist() == [True, True, True]
    hole = shapely.difference(shapely.box(0, 0, 200, 160), shapely.box(30, 30, 60, 70))
    far = Roi(name="far", geometry=shapely.union(hole, shapely.box(300, 0, 310, 9)))
    for distance, near in ((0.0, True), (1.9, True), (2.1, False)):
        found = _found((5, 20, 15 - distance / 2, 30))
        table = tabulate_detections(
            found, scale=SCALE, class_names=NAMES, seed="s", rois=(far,), points=False
        )
        assert table["at_roi_border"].tolist() == [near]
