"""Masks as DICOM Segmentations: a pyramid of label maps, or of flags where classes overlap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.workflows.export.atomic import atomic_folder
from slideloom.workflows.export.dicom_masks import ClassMasks, class_masks
from slideloom.workflows.export.dicom_source import quiet_values, source_image
from slideloom.workflows.export.dicom_terms import (
    algorithm_of,
    class_term,
    instance_of,
    new_uid,
    seal,
)
from slideloom.workflows.result import RunRecord, SlideResult

# The imports inside functions let slideloom do without highdicom.
if TYPE_CHECKING:
    from highdicom import PixelMeasuresSequence, PlanePositionSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.dataset import Dataset

__all__ = ["write_seg"]

_TILE_PX = 512
_MOST_OVERLAPPING_PX = 2**31
"""highdicom's test for overlaps holds two bytes for each pixel."""


def write_seg(result: SlideResult, path: Path) -> None:
    """Write the masks of a result as a folder of segmentations, `level-0.dcm` and so on.

    The files are one series and one pyramid. Level 0 has the mask's own pixels, each further level
    every second pixel of the one before, as in `labels.ome.zarr`. Each class of the model is a
    segment, numbered from 1 in the model's order, with its code and colour, and the model as its
    algorithm. Classes that exclude each other are a LABELMAP (JPEG-LS), in which the pixels of an
    instance have the number of its class: single objects are in `write_ann`'s file. Overlapping
    classes are BINARY. Tiles of 512 px in which nothing is are left out, but for masks that are
    empty as a whole.

    Pixels have the size that the model saw, which need not be that of the source image. Place and
    spacing are those of the image of `source_image`, scaled: viewers lay the mask over the slide.

    Memory: a row of chunks of the mask, the encoded tiles, and for BINARY two bytes for each pixel.
    While it writes, the disk needs a byte for each pixel (and class, where they overlap).

    Follows PS3.3 section C.8.20 (Segmentation) and supplement 243 (Label Map Segmentation). The
    same result gives the same files with the same release of highdicom.

    Args:
        result: A finished slide of an instance or semantic model.
        path: Of the folder.

    Raises:
        SettingsError: The result has no mask, or overlapping classes on more than 2^31 pixels.
        SlideNotFoundError: A DICOM slide is not where it was when it was run.
        SlideFormatError: It is not the slide that was run.
        OutputError: The masks cannot be read, or the files cannot be written.
    """
    masks = class_masks(result)
    _check_size(masks)
    source = source_image(result)
    with quiet_values(), atomic_folder(path) as folder:
        for level in range(len(masks.sizes)):
            with masks.on_disk(level, folder) as pixels:
                image = _segmentation(
                    pixels, result, overlapping=masks.overlapping, level=level, source=source
                )
            image.save_as(folder / f"level-{level}.dcm", enforce_file_format=True)


def _check_size(masks: ClassMasks) -> None:
    height, width = masks.sizes[0].shape
    if masks.overlapping and width * height > _MOST_OVERLAPPING_PX:
        msg = (
            f"a mask of {width} x {height} px with overlapping classes is too large for DICOM "
            f"(more than {_MOST_OVERLAPPING_PX} px): export another format, or run at a coarser mpp"
        )
        raise SettingsError(msg)


def _segmentation(
    pixels: NDArray[Any], result: SlideResult, *, overlapping: bool, level: int, source: Dataset
) -> Segmentation:
    from highdicom.seg import Segmentation
    from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

    factor = result.record.qa.read_mpp / result.record.slide.mpp
    image = Segmentation(
        source_images=[source],
        pixel_array=pixels,
        segmentation_type="BINARY" if overlapping else "LABELMAP",
        segment_descriptions=_segments(result.record),
        # DICOM has no other compression for single bits than JPEG 2000, which few readers know.
        transfer_syntax_uid=ExplicitVRLittleEndian if overlapping else JPEGLSLossless,
        pixel_measures=_pixel_measures(source, factor * 2**level),
        plane_positions=[_first_pixel(source, factor)],
        tile_pixel_array=True,
        tile_size=(_TILE_PX, _TILE_PX),
        pyramid_uid=new_uid(result, source, "pyramid"),
        **instance_of(result, source, kind="segmentation", number=level + 1),
    )
    dimensions = new_uid(result, source, "dimensions", str(level))
    for item in (*image.DimensionIndexSequence, *image.DimensionOrganizationSequence):
        item.DimensionOrganizationUID = dimensions
    seal(image, result)
    return image


def _segments(record: RunRecord) -> list[SegmentDescription]:
    from highdicom.seg import SegmentDescription

    terms = [class_term(item) for item in record.model.classes]
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=term.label,
            segmented_property_category=term.category,
            segmented_property_type=term.type,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm_of(record),
            display_color=term.color,
        )
        for number, term in enumerate(terms, start=1)
    ]


def _pixel_measures(source: Dataset, factor: float) -> PixelMeasuresSequence:
    """Spacing of pixels that are `factor` pixels of the source wide."""
    from highdicom import PixelMeasuresSequence

    measures = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return PixelMeasuresSequence(
        pixel_spacing=[float(spacing) * factor for spacing in measures.PixelSpacing],
        slice_thickness=float(measures.SliceThickness),
    )


def _first_pixel(source: Dataset, factor: float) -> PlanePositionSequence:
    """Where the mask's first pixel is on the glass: its centre, the same for all levels.

    The mask's corner is that of the source. Its first pixel covers `factor` pixels from there, and
    the coarser levels keep that one.
    """
    from highdicom import PlanePositionSequence
    from highdicom.spatial import ImageToReferenceTransformer

    to_glass = ImageToReferenceTransformer.for_image(source, for_total_pixel_matrix=True)
    centre = to_glass(np.array([[factor / 2, factor / 2]]))
    return PlanePositionSequence(
        "SLIDE", image_position=centre[0].tolist(), pixel_matrix_position=(1, 1)
    )
