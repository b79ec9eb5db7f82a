from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05.image_label import ImageLabel
from ome_zarr_models.v05.labels import Labels

from slideloom.errors import OutputError, SettingsError
from slideloom.wsi import Box, Size
from slideloom.wsi.writing.labels import (
    LabelClass,
    LabelImage,
    create_labels,
    finish_labels,
    open_labels,
    read_labels,
    write_chunks,
)

CLASSES = (
    LabelClass(value=1, name="tumour", color=(200, 0, 10)),
    LabelClass(value=2, name="stroma", color=(0, 90, 200)),
)
MASK = LabelImage(name="mask", dtype="uint8", classes=CLASSES)
NUCLEI = LabelImage(name="nuclei-1", dtype="uint32")
SIZE = Size(width=1301, height=700)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "labels.ome.zarr"


@pytest.fixture
def filled(store: Path) -> tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]]:
    mask, nuclei = create_labels(store, [MASK, NUCLEI], size=SIZE, mpp=0.25, chunk_px=256)
    truth = np.random.default_rng(0).integers(0, 2**32, SIZE.shape, dtype=np.uint32)
    truth[:256, :256] = 0

    bounds = Box.of_size(SIZE)

    def write(corner: tuple[int, int]) -> None:
        y, x = corner
        box = Box(x0=x, y0=y, x1=x + 512, y1=y + 512).intersect(bounds)
        pixels = truth[box.slices_in(bounds)]
        write_chunks(nuclei, pixels, box=box)
        write_chunks(mask, (pixels % 3).astype(np.uint8), box=box)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [(y, x) for y in range(0, 700, 512) for x in range(0, 1301, 512)]))
    finish_labels(store, threads=3)
    return store, truth


def compute(store: Path, name: str, level: int = 0) -> np.ndarray[Any, Any]:
    array = read_labels(store, name, level=level)
    pixels: np.ndarray[Any, Any] = array.compute()
    return pixels


def test_every_level_is_every_second_pixel_of_the_one_before(
    filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]],
) -> None:
    store, truth = filled
    for level, step in enumerate((1, 2, 4)):
        assert np.array_equal(compute(store, "nuclei-1", level), truth[::step, ::step])
        assert np.array_equal(compute(store, "mask", level), (truth % 3)[::step, ::step])
    assert open_labels(store, "nuclei-1").dtype == np.uint32
    assert open_labels(store, "mask", level=2).dtype == np.uint8
    with pytest.raises(OutputError, match="has no level 3"):
        read_labels(store, "mask", level=3)


def test_metadata_is_valid_ngff(
    filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]],
) -> None:
    store = filled[0]
    labels = Labels.from_zarr(zarr.open_group(store / "labels", mode="r"))
    assert labels.attributes.ome.labels == ["mask", "nuclei-1"]
    image = ImageLabel.from_zarr(zarr.open_group(store / "labels" / "mask", mode="r"))
    multiscale = image.attributes.ome.multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["y", "x"]
    assert {axis.unit for axis in multiscale.axes} == {"micrometer"}
    scales = [item.coordinateTransformations[0].model_dump() for item in multiscale.datasets]
    assert [item["scale"] for item in scales] == [[0.25, 0.25], [0.5, 0.5], [1.0, 1.0]]
    label = image.attributes.ome.image_label
    assert label is not None
    assert label.colors is not None
    assert [(item.label_value, item.rgba) for item in label.colors] == [
        (1.0, (200, 0, 10, 255)),
        (2.0, (0, 90, 200, 255)),
    ]
    raw: Any = zarr.open_group(store / "labels" / "mask", mode="r").attrs["ome"]
    assert raw["image-label"]["properties"][1] == {"label-value": 2, "class": "stroma"}
    assert raw["image-label"]["source"] == {"image": "../../"}
    nuclei: Any = zarr.open_group(store / "labels" / "nuclei-1", mode="r").attrs["ome"]
    assert nuclei["image-label"] == {"source": {"image": "../../"}, "colors": []}


def test_ome_zarr_py_reads_it(
    filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]],
) -> None:
    store, truth = filled
    nodes = [node for node in Reader(parse_url(str(store / "labels")))() if node.data]
    assert [node.metadata["name"] for node in nodes] == ["mask", "nuclei-1"]
    assert nodes[0].metadata["properties"] == {1: {"class": "tumour"}, 2: {"class": "stroma"}}
    node = nodes[1]
    assert [item.shape for item in node.data] == [(700, 1301), (350, 651), (175, 326)]
    assert np.array_equal(np.asarray(node.data[1]), truth[::2, ::2])


def test_metadata_is_valid_before_the_levels_are_built(store: Path) -> None:
    create_labels(store, [MASK], size=SIZE, mpp=0.25)
    ImageLabel.from_zarr(zarr.open_group(store / "labels" / "mask", mode="r"))
    assert (compute(store, "mask") == 0).all()


def test_empty_chunks_take_no_file(
    filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]],
) -> None:
    folder = filled[0] / "labels" / "nuclei-1" / "0" / "c"
    assert not (folder / "0" / "0").exists()
    assert (folder / "0" / "1").exists()


def test_finishing_again_gives_the_same(
    filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]],
) -> None:
    store, truth = filled
    finish_labels(store)
    assert np.array_equal(compute(store, "nuclei-1", 2), truth[::4, ::4])


def test_a_run_that_was_stopped_writes_on(store: Path) -> None:
    create_labels(store, [MASK], size=SIZE, mpp=0.25, chunk_px=256)
    open_labels(store, "mask")[0:2, 0:2] = 2
    assert compute(store, "mask").sum() == 8


def test_a_store_is_not_overwritten(store: Path) -> None:
    create_labels(store, [MASK], size=SIZE, mpp=0.25)
    with pytest.raises(OutputError, match=r"'labels\.ome\.zarr' exists already"):
        create_labels(store, [MASK], size=SIZE, mpp=0.25)


def test_labels_that_are_not_there(store: Path) -> None:
    with pytest.raises(OutputError, match="no label image 'mask'"):
        open_labels(store, "mask")
    with pytest.raises(OutputError, match="there are no labels"):
        finish_labels(store)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a b", "Ärger/.."])
def test_names_that_are_no_folder(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be called"):
        LabelImage(name=name, dtype="uint8")


def test_two_images_of_one_name(store: Path) -> None:
    for images in ([], [MASK, MASK]):
        with pytest.raises(SettingsError, match="different names"):
            create_labels(store, images, size=SIZE, mpp=0.25)
