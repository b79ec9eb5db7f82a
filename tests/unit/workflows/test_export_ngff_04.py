import json
from pathlib import Path

import numpy as np
import pytest
from ome_zarr.io import parse_url
from ome_zarr.reader import Node, Reader
from ome_zarr_models.v04.image_label import ImageLabelAttrs

from slideloom.workflows.export.ngff_04 import write_ngff_04
from slideloom.workflows.result import LABELS_FOLDER, PROBABILITIES_FOLDER, SlideResult
from tests.makers.masked_results import (
    MASK_KINDS,
    MPP,
    MaskKind,
    class_areas_px,
)


@pytest.fixture(scope="module")
def stores(
    masked_results: dict[MaskKind, SlideResult], tmp_path_factory: pytest.TempPathFactory
) -> dict[MaskKind, Path]:
    folder = tmp_path_factory.mktemp("stores")
    paths = {kind: folder / f"{kind}.ome.zarr" for kind in masked_results}
    for kind, result in masked_results.items():
        write_ngff_04(result, paths[kind])
    assert sorted(folder.iterdir()) == sorted(paths.values())
    return paths


def nodes_of(store: Path) -> list[Node]:
    """The images that ome-zarr-py finds."""
    location = parse_url(str(store))
    assert location is not None
    return [node for node in Reader(location)() if node.data]


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_py_reads_all_levels_of_both_versions(
    masked_results: dict[MaskKind, SlideResult],
    stores: dict[MaskKind, Path],
    kind: MaskKind,
    version: str,
) -> None:
    result = masked_results[kind]
    store = stores[kind] if version == "0.4" else result.folder / LABELS_FOLDER
    nodes = nodes_of(store / "labels")
    names = ["upright & high", "lying"] if kind == "overlapping" else [kind]
    assert [node.metadata["name"] for node in nodes] == names
    for node, mask in zip(nodes, result.masks.values(), strict=True):
        assert node.zarr.fmt.version == version
        pixels = mask.compute()
        for level, step in zip(node.data, (1, 2, 4), strict=True):
            assert level.dtype == pixels.dtype
            np.testing.assert_array_equal(np.asarray(level), pixels[::step, ::step])
        scales = [item[0]["scale"] for item in node.metadata["coordinateTransformations"]]
        assert scales == [[MPP * step] * 2 for step in (1, 2, 4)]
        assert {axis["unit"] for axis in node.metadata["axes"]} == {"micrometer"}


def test_numbers_and_areas_are_those_of_the_table(
    masked_results: dict[MaskKind, SlideResult], stores: dict[MaskKind, Path]
) -> None:
    result = masked_results["objects"]
    (node,) = nodes_of(stores["objects"] / "labels")
    values, pixels = np.unique(np.asarray(node.data[0]), return_counts=True)
    assert len(values) > 100
    np.testing.assert_array_equal(values, np.arange(len(result.objects) + 1))
    np.testing.assert_allclose(pixels[1:] * MPP**2, result.objects["area_um2"])


def test_areas_of_classes_are_those_of_the_table(
    masked_results: dict[MaskKind, SlideResult], stores: dict[MaskKind, Path]
) -> None:
    (node,) = nodes_of(stores["classes"] / "labels")
    pixels = np.asarray(node.data[0])
    assert {
        said["class"]: int((pixels == value).sum())
        for value, said in node.metadata["properties"].items()
    } == class_areas_px(masked_results["classes"])
    overlapping = nodes_of(stores["overlapping"] / "labels")
    assert {node.metadata["name"]: int(np.asarray(node.data[0]).sum()) for node in overlapping} == (
        class_areas_px(masked_results["overlapping"])
    )


def test_classes_keep_their_colours(
    masked_results: dict[MaskKind, SlideResult], stores: dict[MaskKind, Path]
) -> None:
    classes = masked_results["classes"].record.model.classes
    (node,) = nodes_of(stores["classes"] / "labels")
    assert {
        value: tuple(round(255 * part) for part in color)
        for value, color in node.metadata["color"].items()
    } == {value: (*item.color, 255) for value, item in enumerate(classes, 1)}


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_metadata_is_valid(stores: dict[MaskKind, Path], kind: MaskKind) -> None:
    labels = stores[kind] / "labels"
    names = json.loads((labels / ".zattrs").read_text())["labels"]
    assert names == (["class-1", "class-2"] if kind == "overlapping" else [kind])
    for name in names:
        said = ImageLabelAttrs.model_validate_json((labels / name / ".zattrs").read_text())
        assert said.multiscales[0].version == "0.4"
        assert said.image_label is not None
        assert said.image_label.version == "0.4"
        array = json.loads((labels / name / "0" / ".zarray").read_text())
        assert (array["zarr_format"], array["dimension_separator"]) == (2, "/")


@pytest.mark.parametrize("kind", ["classes", "overlapping"])
def test_ome_zarr_py_reads_probabilities(
    masked_results: dict[MaskKind, SlideResult], kind: MaskKind
) -> None:
    result = masked_results[kind]
    (node,) = nodes_of(result.folder / PROBABILITIES_FOLDER)
    classes = [item.name for item in result.record.model.classes]
    names = classes if kind == "overlapping" else ["background", *classes]
    assert node.metadata["channel_names"] == names
    assert node.metadata["contrast_limits"] == [[0, 255]] * len(names)
    assert [axis["name"] for axis in node.metadata["axes"]] == ["c", "y", "x"]
    assert len(node.data) == 3
    assert node.data[0].dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(node.data[0]), result.probabilities.compute())


def test_a_store_that_stands_there_is_replaced(
    masked_results: dict[MaskKind, SlideResult], tmp_path: Path
) -> None:
    store = tmp_path / "labels-0.4.ome.zarr"
    for kind in ("overlapping", "classes"):
        write_ngff_04(masked_results[kind], store)
    assert [node.metadata["name"] for node in nodes_of(store / "labels")] == ["classes"]
    assert list(tmp_path.iterdir()) == [store]
