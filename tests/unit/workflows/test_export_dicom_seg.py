"""Segmentations read back by highdicom are the masks, at their place on the slide."""

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from slideloom.errors import OutputError, SettingsError
from slideloom.models.spec import ModelClass
from slideloom.workflows.export import dicom_seg
from slideloom.workflows.export.dicom_seg import write_seg
from slideloom.workflows.export.dicom_source import source_image
from slideloom.workflows.result import LABELS_FOLDER, OBJECTS_FILE, SlideResult
from slideloom.wsi import Box, Size
from slideloom.wsi.writing.labels import LabelImage, create_labels, finish_labels, write_chunks
from tests.makers.finished_result import CLASSES, finished_result, squares

SHAPE = (700, 1100)


def _masked(
    folder: Path, *layers: NDArray[Any], objects: int = 0, factor: float = 1.0, **model: Any
) -> SlideResult:
    """A result with these masks; those that overlap are called by the number of their class."""
    height, width = layers[0].shape
    size = {"width": round(width * factor), "height": round(height * factor)}
    result = finished_result(folder, squares(objects), mpp=0.5, **size)
    kind: Any = layers[0].dtype.name
    names = ["masks"] if len(layers) == 1 else [f"class-{n + 1}" for n in range(len(layers))]
    store = folder / LABELS_FOLDER
    arrays = create_labels(
        store,
        [LabelImage(name=name, dtype=kind) for name in names],
        size=Size(width=width, height=height),
        mpp=0.5 * factor,
        chunk_px=256,
    )
    for array, layer in zip(arrays, layers, strict=True):
        write_chunks(array, layer, box=Box(x0=0, y0=0, x1=width, y1=height))
    finish_labels(store, threads=1)
    record = result.record
    changes = {
        "model": record.model.model_copy(update=model),
        "qa": record.qa.model_copy(update={"read_mpp": 0.5 * factor}),
    }
    return SlideResult(folder=folder, record=record.model_copy(update=changes))


def _written(result: SlideResult) -> list[hd.seg.Segmentation]:
    folder = result.folder / "labels.seg"
    write_seg(result, folder)
    paths = sorted(folder.iterdir())
    assert [path.name for path in paths] == [f"level-{n}.dcm" for n in range(len(paths))]
    return [hd.seg.segread(path) for path in paths]


def _squares_of_classes(side: int = 37) -> NDArray[np.uint8]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.asarray((y // side + x // side) % 3, np.uint8)


def _corner() -> NDArray[np.uint8]:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[600:, 1030:] = 2
    return pixels


def test_exclusive_classes_are_a_pyramid_of_label_maps(tmp_path: Path) -> None:
    truth = _squares_of_classes()
    images = _written(_masked(tmp_path / "S1", truth, task="semantic"))
    assert len(images) == 3
    for level, image in enumerate(images):
        assert image.segmentation_type.value == "LABELMAP"
        step = 2**level
        found = image.get_total_pixel_matrix(combine_segments=True)
        np.testing.assert_array_equal(found, truth[::step, ::step])
    assert len({image.PyramidUID for image in images}) == 1
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == 3
    assert [image.InstanceNumber for image in images] == [1, 2, 3]


def test_pixels_of_instances_have_the_class_of_their_object(tmp_path: Path) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    numbers = ((y // 100) * 11 + x // 100).astype(np.uint32)
    result = _masked(tmp_path / "S1", numbers, objects=int(numbers.max()))
    image = _written(result)[0]
    table = result.objects["class"].map({"tumour": 1, "stroma": 2}).to_numpy()
    truth = np.concatenate([[0], table])[numbers]
    np.testing.assert_array_equal(image.get_total_pixel_matrix(combine_segments=True), truth)
    assert image.segmentation_type.value == "LABELMAP"


def test_more_classes_than_a_byte_holds(tmp_path: Path) -> None:
    classes = tuple(ModelClass(name=f"k{n}", color=(0, 0, 0)) for n in range(299))
    more = (*classes, *CLASSES)
    numbers = np.array([[0, 1], [2, 0]], np.uint32)
    image = _written(_masked(tmp_path / "S1", numbers, objects=2, classes=more))[0]
    found = image.get_total_pixel_matrix(combine_segments=True)
    np.testing.assert_array_equal(found, [[0, 300], [301, 0]])


def test_overlapping_classes_are_flags_in_the_order_of_the_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    layers = [np.zeros(SHAPE, np.uint8) for _ in range(11)]
    for number, layer in enumerate(layers):
        layer[:90, 30 * number : 30 * number + 50] = rng.integers(0, 2, (90, 50))
    classes = tuple(ModelClass(name=f"k{n}", color=(n, 0, 0)) for n in range(11))
    result = _masked(tmp_path / "S1", *layers, task="semantic", overlapping=True, classes=classes)
    images = _written(result)
    assert images[0].segmentation_type.value == "BINARY"
    assert images[0].SegmentsOverlap == "YES"
    assert [item.SegmentLabel for item in images[0].SegmentSequence] == [c.name for c in classes]
    for level, image in enumerate(images):
        step = 2**level
        found = image.get_total_pixel_matrix()
        truth = np.stack([layer[::step, ::step] for layer in layers], axis=-1)
        np.testing.assert_array_equal(found, truth)


def test_segments_have_codes_colours_and_the_model(tmp_path: Path) -> None:
    image = _written(_masked(tmp_path / "S1", _corner(), task="semantic", weights_sha256="ab"))[0]
    tumour = image.get_segment_description(1)
    assert [image.get_segment_description(n).segment_label for n in (1, 2)] == ["tumour", "stroma"]
    assert tumour.segmented_property_type == codes.SCT.Neoplasm
    color = hd.color.CIELabColor.from_dicom_value(tumour.RecommendedDisplayCIELabValue)
    assert color.to_rgb() == CLASSES[0].color
    assert tumour.algorithm_type.value == "AUTOMATIC"
    assert tumour.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "made"
    assert tumour.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "ab"


def test_tiles_that_hold_nothing_are_left_out(tmp_path: Path) -> None:
    images = _written(_masked(tmp_path / "S1", _corner(), task="semantic"))
    # Level 0 has 2 x 3 tiles of 512 px, and level 1 is 350 x 550 px.
    assert [image.number_of_frames for image in images] == [1, 1, 1]
    found = images[0].get_total_pixel_matrix(combine_segments=True)
    np.testing.assert_array_equal(found, _corner())


def test_an_empty_mask_is_written_as_a_whole(tmp_path: Path) -> None:
    images = _written(_masked(tmp_path / "S1", np.zeros(SHAPE, np.uint8), task="semantic"))
    for level, image in enumerate(images):
        found = image.get_total_pixel_matrix(combine_segments=True)
        assert found.shape == (-(-SHAPE[0] // 2**level), -(-SHAPE[1] // 2**level))
        assert not found.any()


@pytest.mark.parametrize("factor", [1.0, 2.0, 3.25])
def test_the_mask_lies_on_the_slide_at_its_own_scale(tmp_path: Path, factor: float) -> None:
    result = _masked(tmp_path / "S1", _corner(), task="semantic", factor=factor)
    to_slide = hd.spatial.ReferenceToImageTransformer.for_image(
        source_image(result), for_total_pixel_matrix=True
    )
    for level, image in enumerate(_written(result)):
        to_glass = hd.spatial.PixelToReferenceTransformer.for_image(
            image, for_total_pixel_matrix=True
        )
        index = np.array([[0, 0], [10, 0], [0, 150], [200, 99]])
        placed = to_slide(to_glass(index))
        # Pixel i of a level is pixel i * 2^level of the mask, whose middle lies half a pixel on.
        expected = (index * 2**level + 0.5) * factor
        np.testing.assert_allclose(placed[:, :2], expected, atol=1e-3)
        np.testing.assert_allclose(placed[:, 2], 0, atol=1e-9)


def test_the_files_refer_to_the_slide(tmp_path: Path) -> None:
    result = _masked(tmp_path / "S1", _corner(), task="semantic")
    source = source_image(result)
    for image in _written(result):
        (reference,) = image.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert image.StudyInstanceUID == source.StudyInstanceUID
        assert image.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_the_same_result_gives_the_same_files(tmp_path: Path) -> None:
    result = _masked(tmp_path / "S1", _squares_of_classes(200), task="semantic")
    for name in ("one", "two"):
        write_seg(result, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_detections_have_no_mask(tmp_path: Path) -> None:
    result = _masked(tmp_path / "S1", _corner(), task="detection")
    with pytest.raises(SettingsError, match="masks"):
        write_seg(result, tmp_path / "labels.seg")
    assert not (tmp_path / "labels.seg").exists()


def test_overlapping_masks_beyond_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_seg, "_MOST_OVERLAPPING_PX", 700 * 1100 - 1)
    layers = (_corner() // 2, _corner() // 2)
    result = _masked(tmp_path / "S1", *layers, task="semantic", overlapping=True)
    with pytest.raises(SettingsError, match="1100 x 700 px with overlapping classes is too large"):
        write_seg(result, tmp_path / "labels.seg")
    # Memory does not limit label maps.
    write_seg(_masked(tmp_path / "S2", _corner(), task="semantic"), tmp_path / "labels.seg")


def test_a_result_without_its_table_is_told(tmp_path: Path) -> None:
    result = _masked(tmp_path / "S1", _corner().astype(np.uint32), objects=2)
    (result.folder / OBJECTS_FILE).unlink()
    with pytest.raises(OutputError, match=r"objects\.parquet"):
        write_seg(result, tmp_path / "labels.seg")
