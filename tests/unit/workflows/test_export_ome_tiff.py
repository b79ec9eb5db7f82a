from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.workflows.export.ome_tiff import write_ome_tiff
from slideloom.workflows.result import SlideResult
from slideloom.wsi import Box, Mpp, open_slide
from tests.makers.masked_results import (
    MASK_KINDS,
    MPP,
    SIZE,
    MaskKind,
    bars,
    class_areas_px,
)

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def files(
    masked_results: dict[MaskKind, SlideResult], tmp_path_factory: pytest.TempPathFactory
) -> dict[MaskKind, Path]:
    folder = tmp_path_factory.mktemp("files")
    paths = {kind: folder / f"{kind}.ome.tif" for kind in masked_results}
    for kind, result in masked_results.items():
        write_ome_tiff(result, paths[kind])
    assert sorted(folder.iterdir()) == sorted(paths.values())
    return paths


def levels_of(path: Path) -> list[NDArray[np.generic]]:
    """`(c, y, x)` of each level."""
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        return [level.asarray().reshape(-1, *level.shape[-2:]) for level in series.levels]


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_levels_are_the_masks_and_their_nearest_pixels(
    masked_results: dict[MaskKind, SlideResult], files: dict[MaskKind, Path], kind: MaskKind
) -> None:
    masks = np.stack([mask.compute() for mask in masked_results[kind].masks.values()])
    assert masks.any()
    levels = levels_of(files[kind])
    for level, step in zip(levels, (1, 2, 4), strict=True):
        assert level.dtype == (np.uint32 if kind == "objects" else np.uint8)
        np.testing.assert_array_equal(level, masks[:, ::step, ::step])


def test_numbers_and_areas_are_those_of_the_table(
    masked_results: dict[MaskKind, SlideResult], files: dict[MaskKind, Path]
) -> None:
    result = masked_results["objects"]
    (labels,) = levels_of(files["objects"])[0]
    values, pixels = np.unique(labels[labels > 0], return_counts=True)
    assert len(values) > 100
    np.testing.assert_array_equal(values, np.arange(1, len(result.objects) + 1))
    np.testing.assert_allclose(pixels * MPP**2, result.objects["area_um2"])


def test_areas_of_classes_are_those_of_the_table(
    masked_results: dict[MaskKind, SlideResult], files: dict[MaskKind, Path]
) -> None:
    names = [item.name for item in masked_results["classes"].record.model.classes]
    (labels,) = levels_of(files["classes"])[0]
    found = {name: int((labels == value).sum()) for value, name in enumerate(names, 1)}
    assert found == class_areas_px(masked_results["classes"])
    overlapping = levels_of(files["overlapping"])[0]
    assert overlapping.all(axis=0).any()
    np.testing.assert_array_equal(
        np.moveaxis(overlapping, 0, -1), bars(0, 0, side=SIZE.width)[: SIZE.height]
    )
    assert [int(mask.sum()) for mask in overlapping] == [
        class_areas_px(masked_results["overlapping"])[name] for name in ("upright & high", "lying")
    ]


@pytest.mark.parametrize(
    ("kind", "names", "meaning"),
    [
        ("objects", ["objects"], "a value is the row of objects.parquet + 1, and 0 is no object"),
        ("classes", ["classes"], "a value is a class (1 upright & high, 2 lying), and 0 is"),
        ("overlapping", ["upright & high", "lying"], "a channel is a class, 1 where it is"),
    ],
)
def test_the_xml_says_what_the_values_are(
    files: dict[MaskKind, Path], kind: MaskKind, names: list[str], meaning: str
) -> None:
    with tifffile.TiffFile(files[kind]) as tiff:
        assert tiff.is_bigtiff
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    (image,) = root.findall(f"{OME}Image")
    assert image.attrib["Name"] == kind
    assert meaning in (image.findtext(f"{OME}Description") or "")
    channels = image.findall(f"{OME}Pixels/{OME}Channel")
    assert [item.attrib["Name"] for item in channels] == names


@pytest.mark.parametrize("kind", ["classes", "overlapping"])
def test_slideloom_opens_it_at_the_masks_mpp(
    masked_results: dict[MaskKind, SlideResult], files: dict[MaskKind, Path], kind: MaskKind
) -> None:
    masks = [mask.compute() for mask in masked_results[kind].masks.values()]
    with open_slide(files[kind]) as slide:
        assert slide.mpp == Mpp(x=MPP, y=MPP)
        assert slide.size == SIZE
        found = slide.read_raw(Box.of_size(SIZE))
        np.testing.assert_array_equal(found, np.stack(masks, axis=-1))


def test_the_same_result_gives_the_same_file(
    masked_results: dict[MaskKind, SlideResult], files: dict[MaskKind, Path], tmp_path: Path
) -> None:
    path = tmp_path / "again.ome.tif"
    path.write_text("what stood here before")
    write_ome_tiff(masked_results["overlapping"], path)
    assert path.read_bytes() == files["overlapping"].read_bytes()
