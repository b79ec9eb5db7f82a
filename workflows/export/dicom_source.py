"""The image that DICOM annotations and segmentations refer to: the slide's own, or a stand-in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.uid import VLWholeSlideMicroscopyImageStorage, generate_uid

from slideloom.errors import SlideFormatError, SlideNotFoundError
from slideloom.workflows.export.dicom_terms import short_text
from slideloom.workflows.result import SlideRecord, SlideResult
from slideloom.wsi.readers.dicom_folder import dicom_slides, one_slide_of, series_of
from slideloom.wsi.source import parse_source

__all__ = ["quiet_values", "source_image"]

_MM_PER_UM = 1e-3
_DICOM_READER = "openslide"
_DICOM_ENDINGS = (".dcm", "")
_TILE_PX = 512
# A section is about this thick, and DICOM has no way to say that nobody knows.
_THICKNESS_MM = 0.004
# The image's right is -y of the slide and its bottom is -x, so that its front is seen.
_ORIENTATION = [0, -1, 0, -1, 0, 0]
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_NAMES_IT = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def source_image(result: SlideResult) -> Dataset:
    """The header of the image that the objects of a result lie on, without its pixels.

    For a DICOM slide it is that of its finest level, read from the slide's file; what highdicom
    needs and the file leaves out is filled in with empty values and the usual place on the glass.

    For any other slide it is made up: a whole-slide image of the same size and resolution, of a
    patient called as the slide, with identifiers that follow from the slide's content, so that all
    results of a slide refer to the same image. That image exists nowhere in DICOM. A PACS stores
    such objects, but shows them on nothing: convert the slide to DICOM first, and run on that.

    Raises:
        SlideNotFoundError: A DICOM slide is not where it was when it was run.
        SlideFormatError: It is not the slide that was run, or its header does not name it.
    """
    record = result.record.slide
    path = _dicom_file(record)
    header = _stand_in(record) if path is None else _read(path, record)
    _complete(header, record)
    return header


@contextmanager
def quiet_values() -> Iterator[None]:
    """Keep the libraries from warning of values in the slide's header that break a rule of DICOM.

    They are kept as they are, as objects have to refer to the image by them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="(pydicom|highdicom)")
        yield


def _dicom_file(record: SlideRecord) -> Path | None:
    """The file of the finest level; None for a slide that is not DICOM."""
    path = parse_source(record.path)
    if record.reader != _DICOM_READER or isinstance(path, str):
        return None
    if not path.exists():
        if path.suffix.lower() not in _DICOM_ENDINGS:
            return None
        msg = (
            f"slide '{path}' is not there any more, and DICOM exports need its header: bring it "
            "back, or work in the folder in which the run was started"
        )
        raise SlideNotFoundError(msg)
    if path.is_dir():
        return one_slide_of(path)
    if not is_dicom(path):
        return None
    slides = dicom_slides(series_of(path))
    return slides[0].finest if slides else path


def _read(path: Path, record: SlideRecord) -> Dataset:
    try:
        with quiet_values():
            header = pydicom.dcmread(path, stop_before_pixels=True)
            size = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
            if not all(header[keyword].value for keyword in _NAMES_IT):
                msg = f"{', '.join(_NAMES_IT)} are not all stated"
                raise ValueError(msg)
    except (InvalidDicomError, OSError, AttributeError, LookupError, ValueError) as error:
        msg = f"the header of slide '{path}' cannot be read ({error}): copy the file again"
        raise SlideFormatError(msg) from error
    if size != (record.width, record.height):
        msg = (
            f"slide '{path}' has {size[0]} x {size[1]} px and the result is of one with "
            f"{record.width} x {record.height} px: bring back the slide that was run"
        )
        raise SlideFormatError(msg)
    return header


def _stand_in(record: SlideRecord) -> Dataset:
    """What objects copy from a whole-slide image or refer to; `_complete` adds the rest.

    It is not the header of a file: no file will hold this image.
    """
    header = Dataset()
    header.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    header.SOPInstanceUID = _uid(record, "image")
    header.StudyInstanceUID = _uid(record, "study")
    header.SeriesInstanceUID = _uid(record, "series")
    header.PatientID = short_text(record.name)
    # The mark says that the name has no more components.
    header.PatientName = short_text(record.name, forbidden="\\^=", most=63) + "^"
    header.ContainerIdentifier = short_text(record.name)
    header.IssuerOfTheContainerIdentifierSequence = []
    header.ContainerTypeCodeSequence = []
    header.SpecimenDescriptionSequence = [_specimen(record)]
    header.DimensionOrganizationType = "TILED_FULL"
    header.TotalPixelMatrixColumns = record.width
    header.TotalPixelMatrixRows = record.height
    header.Rows = header.Columns = _TILE_PX
    header.NumberOfFrames = -(-record.width // _TILE_PX) * -(-record.height // _TILE_PX)
    return header


def _complete(header: Dataset, record: SlideRecord) -> None:
    """Add what highdicom asks of every source image, where it is missing."""
    for keyword in _MAY_BE_EMPTY:
        _default(header, keyword, value="")
    _default(header, "Modality", value="SM")
    _default(header, "FrameOfReferenceUID", value=_uid(record, "place", header.SeriesInstanceUID))
    _default(header, "PositionReferenceIndicator", value="SLIDE_CORNER")
    _default(header, "ImageOrientationSlide", value=_ORIENTATION)
    _default(header, "SharedFunctionalGroupsSequence", value=[Dataset()])
    shared = header.SharedFunctionalGroupsSequence[0]
    _default(shared, "PixelMeasuresSequence", value=[Dataset()])
    measures = shared.PixelMeasuresSequence[0]
    _default(measures, "PixelSpacing", value=[record.mpp * _MM_PER_UM] * 2)
    _default(measures, "SliceThickness", value=_THICKNESS_MM)
    # With the usual orientation this puts the whole image at positive coordinates.
    rows_mm, columns_mm = (float(spacing) for spacing in measures.PixelSpacing)
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem = round(record.height * rows_mm, 6)
    origin.YOffsetInSlideCoordinateSystem = round(record.width * columns_mm, 6)
    _default(header, "TotalPixelMatrixOriginSequence", value=[origin])


def _default(dataset: Dataset, keyword: str, *, value: Any) -> None:  # noqa: ANN401
    """Set what is missing; an empty sequence is missing too."""
    if keyword not in dataset or (isinstance(value, list) and not dataset[keyword].value):
        setattr(dataset, keyword, value)


def _specimen(record: SlideRecord) -> Dataset:
    specimen = Dataset()
    specimen.SpecimenIdentifier = short_text(record.name)
    specimen.SpecimenUID = _uid(record, "specimen")
    specimen.IssuerOfTheSpecimenIdentifierSequence = []
    specimen.SpecimenPreparationSequence = []
    return specimen


def _uid(record: SlideRecord, *words: str) -> str:
    return str(generate_uid(entropy_srcs=["slideloom slide", record.fingerprint, *words]))
