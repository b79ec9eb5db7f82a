from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from slideloom.errors import SettingsError
from slideloom.wsi import Box, Mpp, Size, open_slide
from slideloom.wsi.writing import label_tiff
from slideloom.wsi.writing.label_tiff import write_label_tiff
from slideloom.wsi.writing.labels import (
    LabelClass,
    LabelImage,
    StoredLabels,
    create_labels,
    finish_labels,
    stored_labels,
    write_chunks,
)

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
CLASSES = (
    LabelClass(value=1, name="tumour & <stroma>", color=(200, 0, 10)),
    LabelClass(value=2, name="µ necrosis", color=(0, 90, 200)),
)
MASK = LabelImage(name="classes", dtype="uint8", classes=CLASSES)
NUCLEI = LabelImage(name="objects", dtype="uint32")
# In the order of a name they would be 1, 10, 2.
OVERLAPPING = tuple(
    LabelImage(
        name=f"class-{number}",
        dtype="uint8",
        classes=(LabelClass(value=1, name=name, color=(number, 2, 255)),),
    )
    for number, name in ((1, "red"), (2, "green"), (10, "blue"))
)
SIZE = Size(width=1301, height=700)
TRUTH_MPP = 0.25
UUID_1 = UUID(int=1)


def make(
    store: Path, images: tuple[LabelImage, ...], *, size: Size = SIZE, chunk_px: int = 300
) -> tuple[tuple[StoredLabels, ...], list[NDArray[Any]]]:
    """A finished store, and level 0 of its images."""
    arrays = create_labels(store, images, size=size, mpp=TRUTH_MPP, chunk_px=chunk_px)
    rng = np.random.default_rng(3)
    truths = []
    for image, array in zip(images, arrays, strict=True):
        highest = 2**32 - 1 if image.dtype == "uint32" else len(image.classes)
        truth = rng.integers(0, highest, size.shape, dtype=image.dtype, endpoint=True)
        truth[: size.height // 2] = 0
        write_chunks(array, truth, box=Box.of_size(size))
        truths.append(truth)
    finish_labels(store)
    return stored_labels(store), truths


def write(path: Path, images: tuple[StoredLabels, ...]) -> Path:
    with path.open("wb") as file:
        write_label_tiff(
            images, file, name="S1 & S2", description="what <it> is", uuid=UUID_1, threads=2
        )
    return path


def image_of(path: Path) -> ElementTree.Element:
    with tifffile.TiffFile(path) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    (image,) = root.findall(f"{OME}Image")
    return image


@pytest.mark.parametrize("images", [(NUCLEI,), (MASK,), OVERLAPPING])
@pytest.mark.parametrize("span_px", [512, 4096])
def test_every_level_holds_the_nearest_values(
    tmp_path: Path,
    images: tuple[LabelImage, ...],
    span_px: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(label_tiff, "_SPAN_PX", span_px)
    stored, truths = make(tmp_path / "store", images)
    truth = np.stack(truths)
    with tifffile.TiffFile(write(tmp_path / "a.ome.tif", stored)) as tiff:
        (series,) = tiff.series
        assert len(series.levels) == 3
        for level, step in zip(series.levels, (1, 2, 4), strict=True):
            found = level.asarray().reshape(len(images), *level.shape[-2:])
            assert found.dtype == truth.dtype
            np.testing.assert_array_equal(found, truth[:, ::step, ::step])


@pytest.mark.parametrize("size", [Size(width=1, height=1), Size(width=513, height=2)])
def test_small_and_narrow_images(tmp_path: Path, size: Size) -> None:
    stored, (truth,) = make(tmp_path / "store", (NUCLEI,), size=size)
    with tifffile.TiffFile(write(tmp_path / "a.ome.tif", stored)) as tiff:
        assert len(tiff.series[0].levels) == (1 if size.width == 1 else 2)
        np.testing.assert_array_equal(tiff.series[0].asarray(), truth)


def test_it_is_a_lossless_big_tiff_with_reduced_levels_below_each_page(tmp_path: Path) -> None:
    stored, _ = make(tmp_path / "store", OVERLAPPING)
    with tifffile.TiffFile(write(tmp_path / "a.ome.tif", stored)) as tiff:
        assert tiff.is_ome
        assert tiff.is_bigtiff
        assert len(tiff.pages) == 3
        for page in tiff.pages:
            assert isinstance(page, tifffile.TiffPage)
            assert (page.subfiletype, len(page.subifds or ())) == (0, 2)
            levels = [page, *(page.pages or ())]
            for level, found in enumerate(levels):
                assert isinstance(found, tifffile.TiffPage)
                assert found.subfiletype == (1 if level else 0)
                assert (found.tilewidth, found.tilelength) == (512, 512)
                assert found.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
                assert (found.predictor, found.photometric, found.samplesperpixel) == (1, 1, 1)
                assert found.get_resolution(3) == pytest.approx((40_000 / 2**level,) * 2)


def test_ome_xml_of_classes(tmp_path: Path) -> None:
    stored, _ = make(tmp_path / "store", (MASK,))
    path = write(tmp_path / "a.ome.tif", stored)
    image = image_of(path)
    assert image.attrib["Name"] == "S1 & S2"
    assert image.findtext(f"{OME}Description") == "what <it> is"
    pixels = image.find(f"{OME}Pixels")
    assert pixels is not None
    assert (
        pixels.attrib.items()
        >= {
            "SizeX": "1301",
            "SizeY": "700",
            "SizeC": "1",
            "Type": "uint8",
            "PhysicalSizeX": "0.25",
            "PhysicalSizeY": "0.25",
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeYUnit": "µm",
        }.items()
    )
    (channel,) = pixels.findall(f"{OME}Channel")
    assert channel.attrib["Name"] == "classes"
    assert "Color" not in channel.attrib
    with tifffile.TiffFile(path) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    notes = {
        note.attrib["Namespace"]: {
            item.attrib["K"]: item.text for item in note.findall(f"{OME}Value/{OME}M")
        }
        for note in root.findall(f"{OME}StructuredAnnotations/{OME}MapAnnotation")
    }
    assert notes == {
        "slideloom/class-names": {"1": "tumour & <stroma>", "2": "µ necrosis"},
        "slideloom/class-colors": {"1": "#C8000A", "2": "#005AC8"},
    }
    references = image.findall(f"{OME}AnnotationRef")
    assert len(references) == 2


def test_overlapping_classes_are_named_and_coloured_channels_of_one_image(tmp_path: Path) -> None:
    stored, _ = make(tmp_path / "store", OVERLAPPING)
    image = image_of(write(tmp_path / "a.ome.tif", stored))
    channels = image.findall(f"{OME}Pixels/{OME}Channel")
    assert [item.attrib["Name"] for item in channels] == ["red", "green", "blue"]
    rgba = [int(item.attrib["Color"]).to_bytes(4, "big", signed=True) for item in channels]
    assert [tuple(item) for item in rgba] == [(n, 2, 255, 255) for n in (1, 2, 10)]


def test_numbers_of_objects_have_no_colours(tmp_path: Path) -> None:
    stored, _ = make(tmp_path / "store", (NUCLEI,))
    path = write(tmp_path / "a.ome.tif", stored)
    (channel,) = image_of(path).findall(f"{OME}Pixels/{OME}Channel")
    assert channel.attrib["Name"] == "objects"
    assert "Color" not in channel.attrib
    with tifffile.TiffFile(path) as tiff:
        assert "MapAnnotation" not in (tiff.ome_metadata or "")


def test_slideloom_and_pillow_read_it_back(tmp_path: Path) -> None:
    stored, truths = make(tmp_path / "store", OVERLAPPING)
    path = write(tmp_path / "a.ome.tif", stored)
    with open_slide(path) as slide:
        assert slide.mpp == Mpp(x=TRUTH_MPP, y=TRUTH_MPP)
        assert slide.channels == ("red", "green", "blue")
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        for level, step in enumerate((1, 2, 4)):
            box = Box.of_size(slide.levels[level].size)
            found = slide.read_raw(box, level=level)
            expected = np.stack(truths, axis=-1)[::step, ::step]
            np.testing.assert_array_equal(found, expected)
    with Image.open(path) as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), truths[0])


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    stored, _ = make(tmp_path / "store", (MASK,))
    first, second = (write(tmp_path / name, stored).read_bytes() for name in ("a.tif", "b.tif"))
    assert first == second


def test_labels_that_differ_in_type_do_not_share_a_file(tmp_path: Path) -> None:
    stored, _ = make(tmp_path / "store", (MASK, NUCLEI))
    for images, count in ((stored, 2), ((), 0)):
        with pytest.raises(SettingsError, match=f"one size and type, got {count}"):
            write(tmp_path / "a.ome.tif", images)
