from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v04.image_label import ImageLabelAttrs as OldImageLabelAttrs
from ome_zarr_models.v05.image_label import ImageLabel, ImageLabelAttrs
from ome_zarr_models.v05.labels import Labels

from slideloom.errors import OutputError, SettingsError
from slideloom.wsi import Box, Size
from slideloom.wsi.writing.labels import (
    LabelClass,
    LabelImage,
    copy_labels,
    create_labels,
    finish_labels,
    open_labels,
    read_labels,
    stored_labels,
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
    said: Any = zarr.open_group(store / "labels", mode="r").attrs["ome"]
    assert said == {"version": "0.5", "labels": ["mask", "nuclei-1"]}
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
    assert raw["version"] == "0.5"
    assert raw["image-label"]["properties"][1] == {"label-value": 2, "class": "stroma"}
    assert raw["image-label"]["source"] == {"image": "../../"}
    nuclei: Any = zarr.open_group(store / "labels" / "nuclei-1", mode="r").attrs["ome"]
    # The schema refuses an empty list of colours, and ome-zarr-models a group that states none.
    assert nuclei["image-label"] == {"source": {"image": "../../"}}
    attributes = ImageLabelAttrs.model_validate(nuclei)
    assert [item.path for item in attributes.multiscales[0].datasets] == ["0", "1", "2"]


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
    labels = Labels.from_zarr(zarr.open_group(store / "labels", mode="r"))
    assert labels.attributes.ome.labels == ["mask"]
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


def test_an_image_of_one_class_is_called_by_it(store: Path) -> None:
    images = [
        LabelImage(
            name=f"class-{number}",
            dtype="uint8",
            classes=(LabelClass(value=1, name=item.name, color=item.color),),
        )
        for number, item in enumerate(CLASSES, start=1)
    ]
    create_labels(store, images, size=SIZE, mpp=0.25)
    nodes = [node for node in Reader(parse_url(str(store / "labels")))() if node.data]
    assert [node.metadata["name"] for node in nodes] == ["tumour", "stroma"]
    assert [item.image for item in stored_labels(store)] == images


def test_stored_labels_are_what_was_written(
    filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]],
) -> None:
    store, truth = filled
    mask, nuclei = stored_labels(store)
    assert (mask.image, nuclei.image) == (MASK, NUCLEI)
    assert (mask.mpp, nuclei.mpp) == (0.25, 0.25)
    assert [level.shape for level in mask.levels] == [(700, 1301), (350, 651), (175, 326)]
    assert np.array_equal(np.asarray(nuclei.levels[2][...]), truth[::4, ::4])
    with pytest.raises(OutputError, match="there are no labels"):
        stored_labels(store / "labels")


@pytest.fixture
def old(filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]], tmp_path: Path) -> Path:
    """The same store in OME-NGFF 0.4."""
    copy_labels(filled[0], tmp_path / "old.ome.zarr", version="0.4", threads=3)
    return tmp_path / "old.ome.zarr"


def test_a_copy_in_0_4_holds_the_same(
    filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]], old: Path
) -> None:
    truth = filled[1]
    for level, step in enumerate((1, 2, 4)):
        array = open_labels(old, "nuclei-1", level=level)
        assert array.metadata.zarr_format == 2
        assert array.chunks == (256, 256)
        assert np.array_equal(np.asarray(array[...]), truth[::step, ::step])
        assert np.array_equal(compute(old, "mask", level), (truth % 3)[::step, ::step])
    assert [item.image for item in stored_labels(old)] == [MASK, NUCLEI]
    level_0 = old / "labels" / "nuclei-1" / "0"
    assert not (level_0 / "0" / "0").exists()
    assert (level_0 / "0" / "1").is_file()


def test_metadata_of_0_4_is_valid(old: Path) -> None:
    group = zarr.open_group(old / "labels", mode="r")
    assert dict(group.attrs) == {"labels": ["mask", "nuclei-1"]}
    raw: Any = dict(zarr.open_group(old / "labels" / "mask", mode="r").attrs)
    said = OldImageLabelAttrs.model_validate(raw)
    assert [axis.name for axis in said.multiscales[0].axes] == ["y", "x"]
    scales = [item.coordinateTransformations[0] for item in said.multiscales[0].datasets]
    assert [item.model_dump()["scale"] for item in scales] == [[0.25] * 2, [0.5] * 2, [1.0] * 2]
    assert raw["multiscales"][0]["version"] == "0.4"
    assert raw["image-label"] == {
        "version": "0.4",
        "source": {"image": "../../"},
        "colors": [
            {"label-value": 1, "rgba": [200, 0, 10, 255]},
            {"label-value": 2, "rgba": [0, 90, 200, 255]},
        ],
        "properties": [
            {"label-value": 1, "class": "tumour"},
            {"label-value": 2, "class": "stroma"},
        ],
    }
    nuclei: Any = dict(zarr.open_group(old / "labels" / "nuclei-1", mode="r").attrs)
    assert nuclei["image-label"] == {"version": "0.4", "source": {"image": "../../"}}
    OldImageLabelAttrs.model_validate(nuclei)


def test_ome_zarr_py_reads_0_4(
    filled: tuple[Path, np.ndarray[Any, np.dtype[np.uint32]]], old: Path
) -> None:
    nodes = [node for node in Reader(parse_url(str(old / "labels")))() if node.data]
    assert [node.metadata["name"] for node in nodes] == ["mask", "nuclei-1"]
    assert nodes[0].metadata["properties"] == {1: {"class": "tumour"}, 2: {"class": "stroma"}}
    assert nodes[0].metadata["color"][2] == pytest.approx([0, 90 / 255, 200 / 255, 1])
    assert nodes[1].metadata["color"] == {}
    assert [item.shape for item in nodes[1].data] == [(700, 1301), (350, 651), (175, 326)]
    assert np.array_equal(np.asarray(nodes[1].data[2]), filled[1][::4, ::4])


def test_a_copy_goes_nowhere_else(store: Path, old: Path) -> None:
    with pytest.raises(OutputError, match=r"'old\.ome\.zarr' exists already"):
        copy_labels(store, old, version="0.4")
    with pytest.raises(OutputError, match="there are no labels"):
        copy_labels(store / "nothing", old.with_name("new"), version="0.4")
    assert not old.with_name("new").exists()
