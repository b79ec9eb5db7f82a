"""Every measurement of the objects table against scikit-image, on objects as a network draws them.

Where definitions differ, `slideloom.postprocess.measure.shape` says how; the tests undo that.
"""

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import regionprops_table

from slideloom.postprocess.detection.detections import Detections
from slideloom.postprocess.detection.table import tabulate_detections
from slideloom.postprocess.measure.table import Scale, tabulate_objects
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.testing import make_scene
from slideloom.wsi.geometry import Size

MPP = 0.5
SIZE = Size(width=420, height=360)
SCALE = Scale(extent=SIZE, mpp=MPP, slide_mpp=0.25)
PROPERTIES = (
    "area",
    "bbox",
    "centroid",
    "equivalent_diameter_area",
    "inertia_tensor_eigvals",
    "orientation",
    "perimeter_crofton",
    "solidity",
    "euler_number",
)


@pytest.fixture(scope="module")
def labels() -> NDArray[np.int32]:
    """Nuclei and a gland, some of them with holes; all larger than 60 pixels."""
    scene = make_scene(size=SIZE, mpp=MPP, seed=4, large_objects=1, large_object_um=60)
    whole = scene.areas_px > 60
    labels = np.where(whole, np.cumsum(whole), 0)
    drawn = np.concatenate([[0], labels])[scene.labels].astype(np.int32)
    y, x = (scene.boxes[whole][::3, 1::-1] + scene.boxes[whole][::3, 3:1:-1]).T // 2
    drawn[y, x] = 0
    return drawn


@pytest.fixture(scope="module")
def expected(labels: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    table: dict[str, NDArray[Any]] = regionprops_table(labels, properties=PROPERTIES)
    return table


@pytest.fixture(scope="module")
def table(labels: NDArray[np.int32]) -> gpd.GeoDataFrame:
    pixels = PixelSets.from_labels(labels, count=int(labels.max()), x0=0, y0=0)
    objects = Objects(
        pixels=pixels,
        class_id=np.zeros(len(pixels), np.int16),
        score=np.ones(len(pixels), np.float32),
        recombined=np.zeros(len(pixels), np.bool_),
    )
    return tabulate_objects(objects, scale=SCALE, class_names=["any"], seed="s")


def test_sizes_and_places(table: gpd.GeoDataFrame, expected: dict[str, NDArray[Any]]) -> None:
    assert len(table) > 40
    np.testing.assert_allclose(table["area_um2"], expected["area"] * MPP**2)
    diameter = expected["equivalent_diameter_area"] * MPP
    np.testing.assert_allclose(table["equivalent_diameter_um"], diameter)
    for name, low, high in (("width", "bbox-1", "bbox-3"), ("height", "bbox-0", "bbox-2")):
        side = (expected[high] - expected[low]) * MPP
        np.testing.assert_allclose(table[f"bbox_{name}_um"], side)
    # Level-0 pixels are half as large, and places are counted from the pixel's corner.
    np.testing.assert_allclose(table["centroid_x_px"], 2 * (expected["centroid-1"] + 0.5))
    np.testing.assert_allclose(table["centroid_y_px"], 2 * (expected["centroid-0"] + 0.5))


def test_axes_and_angles(table: gpd.GeoDataFrame, expected: dict[str, NDArray[Any]]) -> None:
    larger, smaller = (expected[f"inertia_tensor_eigvals-{n}"] + 1 / 12 for n in (0, 1))
    np.testing.assert_allclose(table["major_axis_um"], 4 * np.sqrt(larger) * MPP)
    np.testing.assert_allclose(table["minor_axis_um"], 4 * np.sqrt(smaller) * MPP)
    np.testing.assert_allclose(table["eccentricity"], np.sqrt(1 - smaller / larger))
    # From the y axis and the other way round there.
    turn = (table["orientation_deg"] + np.degrees(expected["orientation"]) - 90) % 180
    np.testing.assert_allclose(np.minimum(turn, 180 - turn), 0, atol=1e-6)


def test_forms(table: gpd.GeoDataFrame, expected: dict[str, NDArray[Any]]) -> None:
    # Of an object in one part the Euler number is 1 less its holes.
    assert table["holes"].tolist() == (1 - expected["euler_number"]).tolist()
    assert table["holes"].sum() > 10
    assert table["has_holes"].tolist() == (expected["euler_number"] < 1).tolist()
    # Two estimates of one length: of smooth objects they agree to some percent.
    whole = (table["holes"] == 0).to_numpy()
    perimeter = expected["perimeter_crofton"] * MPP
    np.testing.assert_allclose(table["perimeter_um"][whole], perimeter[whole], rtol=0.08)
    circularity = 4 * np.pi * expected["area"] * MPP**2 / perimeter**2
    np.testing.assert_allclose(table["circularity"][whole], circularity[whole], rtol=0.16)
    # Their hull runs through the middles of the pixels' edges, ours round the corners.
    assert (table["solidity"] <= expected["solidity"] + 1e-9).all()
    np.testing.assert_allclose(table["solidity"], expected["solidity"], rtol=0.07)


def test_boxes(expected: dict[str, NDArray[Any]]) -> None:
    boxes = np.column_stack([expected[f"bbox-{n}"] for n in (1, 0, 3, 2)]).astype(np.float64)
    found = Detections(
        boxes=boxes,
        class_id=np.zeros(len(boxes), np.int16),
        score=np.ones(len(boxes), np.float32),
        recombined=np.zeros(len(boxes), np.bool_),
    )
    table = tabulate_detections(found, scale=SCALE, class_names=["any"], seed="s", points=False)
    filled = np.zeros(SIZE.shape, np.int32)
    for number, (x0, y0, x1, y1) in enumerate(boxes.astype(int).tolist(), start=1):
        filled[:] = 0
        filled[y0:y1, x0:x1] = 1
        one = regionprops_table(filled, properties=("area", "centroid"))
        row = table.iloc[number - 1]
        assert row["area_um2"] == one["area"][0] * MPP**2
        assert row["centroid_x_px"] == pytest.approx(2 * (one["centroid-1"][0] + 0.5))
        assert row["centroid_y_px"] == pytest.approx(2 * (one["centroid-0"][0] + 0.5))
    np.testing.assert_allclose(table["bbox_width_um"], (boxes[:, 2] - boxes[:, 0]) * MPP)
    np.testing.assert_allclose(table["bbox_height_um"], (boxes[:, 3] - boxes[:, 1]) * MPP)
