"""DICOM whole-slide images: one file for each level, label and overview.

Standard: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_A.32.8.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)

from tests.makers.pictures import Picture, cut_tiles, jpeg, shrunk

Organisation = Literal["TILED_FULL", "TILED_SPARSE"]
DicomCodec = Literal["jpeg", "jpeg2000", "jpegls", "uncompressed"]
TILE_PX = 128
_SYNTAX: dict[DicomCodec, UID] = {
    "jpeg": JPEGBaseline8Bit,
    "jpeg2000": JPEG2000Lossless,
    "jpegls": JPEGLSLossless,
    "uncompressed": ExplicitVRLittleEndian,
}
_MM_PER_UM = 1e-3


@dataclass(frozen=True)
class DicomStyle:
    """How the files of a series are written.

    Attributes:
        mpp: Micrometres per level-0 pixel, along x and y.
        missing: Tiles of level 0, as `(row, col)`, that a TILED_SPARSE series leaves out.
        grey: Store one channel, as fluorescence is.
        spacing: State the size of a pixel at all.
        prefix: What the files' names start with.
        described: Say whose tissue it is and where it lies on the glass, as scanners do.
    """

    mpp: tuple[float, float] = (0.25, 0.25)
    missing: frozenset[tuple[int, int]] = frozenset()
    grey: bool = False
    spacing: bool = True
    prefix: str = ""
    described: bool = False


@dataclass(frozen=True)
class _Image:
    """One file's pixels and what they are."""

    name: str
    pixels: Picture
    kind: tuple[str, str, str, str]
    factor: int = 1


def write_dicom_slide(
    folder: Path,
    picture: Picture,
    *,
    organisation: Organisation = "TILED_FULL",
    levels: tuple[int, ...] = (1, 2, 4),
    codec: DicomCodec = "jpeg",
    style: DicomStyle | None = None,
) -> list[Path]:
    """Write one series into `folder`: `level-<factor>.dcm` for each factor, label and overview.

    The folder is made if need be. UIDs follow from the folder's name and the style's prefix, so
    that a second call with another prefix adds a second slide. Tiles have 128 pixels; label and
    overview are one tile each, 40 x 24 pixels of (250, 240, 10) and 64 x 32 of (30, 160, 90).

    Returns:
        The levels' files in the order of `levels`, then `label.dcm` and `overview.dcm`.
    """
    style = style or DicomStyle()
    folder.mkdir(exist_ok=True)
    series = generate_uid(entropy_srcs=[folder.name, style.prefix])
    images = [
        _Image(f"level-{factor}", shrunk(picture, factor), _level_kind(factor), factor)
        for factor in levels
    ]
    label = np.full((24, 40, 3), (250, 240, 10), np.uint8)
    overview = np.full((32, 64, 3), (30, 160, 90), np.uint8)
    images.append(_Image("label", label, ("ORIGINAL", "PRIMARY", "LABEL", "NONE")))
    images.append(_Image("overview", overview, ("ORIGINAL", "PRIMARY", "OVERVIEW", "NONE")))
    paths = []
    for image in images:
        is_level = image.kind[2] == "VOLUME"
        data = _dataset(image, series, codec=codec, style=style)
        _add_frames(
            data,
            image,
            organisation=organisation if is_level else "TILED_FULL",
            codec=codec,
            missing=style.missing if is_level and image.factor == 1 else frozenset(),
        )
        paths.append(folder / f"{style.prefix}{image.name}.dcm")
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def _level_kind(factor: int) -> tuple[str, str, str, str]:
    if factor == 1:
        return ("ORIGINAL", "PRIMARY", "VOLUME", "NONE")
    return ("DERIVED", "PRIMARY", "VOLUME", "RESAMPLED")


def _dataset(image: _Image, series: UID, *, codec: DicomCodec, style: DicomStyle) -> FileDataset:
    """All but the pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(series), image.name])
    meta.TransferSyntaxUID = _SYNTAX[codec]
    data = FileDataset(image.name, {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=["study", str(series)])
    data.SeriesInstanceUID = series
    data.Modality = "SM"
    data.ImageType = list(image.kind)
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = image.pixels.shape[:2]
    data.TotalPixelMatrixFocalPlanes = 1
    data.SamplesPerPixel = 1 if style.grey else 3
    data.PhotometricInterpretation = _photometric(codec, grey=style.grey)
    if not style.grey:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit = 7
    data.PixelRepresentation = 0
    if style.spacing:
        data.SharedFunctionalGroupsSequence = [_shared(image.factor, style.mpp)]
    path = Dataset()
    path.OpticalPathIdentifier = "0"
    path.ObjectiveLensPower = "40"
    data.OpticalPathSequence = [path]
    if style.described:
        _describe(data, image, series, mpp=style.mpp)
    return data


def _describe(data: FileDataset, image: _Image, series: UID, *, mpp: tuple[float, float]) -> None:
    """A patient with a name in Latin-1; level 0 begins at (18, 40) mm, turned by a half."""
    data.SpecificCharacterSet = "ISO_IR 100"
    data.PatientName = "M\xfcller^Ann"
    data.PatientID = "P-1"
    data.PatientBirthDate = "19500102"
    data.PatientSex = "F"
    data.StudyID = "S-1"
    data.StudyDate = "20240506"
    data.StudyTime = "070809"
    data.AccessionNumber = "A-1"
    data.ReferringPhysicianName = "Roe^Jane"
    data.FrameOfReferenceUID = generate_uid(entropy_srcs=["place", str(series)])
    data.PositionReferenceIndicator = "SLIDE_CORNER"
    data.ContainerIdentifier = "C-1"
    data.ImageOrientationSlide = [0, 1, 0, 1, 0, 0]
    origin = Dataset()
    shift_mm = [(image.factor - 1) / 2 * side * _MM_PER_UM for side in mpp]
    origin.XOffsetInSlideCoordinateSystem = f"{18 + shift_mm[1]:.9f}"
    origin.YOffsetInSlideCoordinateSystem = f"{40 + shift_mm[0]:.9f}"
    data.TotalPixelMatrixOriginSequence = [origin]


def _photometric(codec: DicomCodec, *, grey: bool) -> str:
    if grey:
        return "MONOCHROME2"
    return "YBR_FULL_422" if codec == "jpeg" else "RGB"


def _shared(factor: int, mpp: tuple[float, float]) -> Dataset:
    """The pixel spacing: that of rows, which is along y, comes first."""
    x, y = mpp
    measures = Dataset()
    measures.PixelSpacing = [y * factor * _MM_PER_UM, x * factor * _MM_PER_UM]
    measures.SliceThickness = 0.001
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    return shared


def _add_frames(
    data: FileDataset,
    image: _Image,
    *,
    organisation: Organisation,
    codec: DicomCodec,
    missing: frozenset[tuple[int, int]],
) -> None:
    is_level = image.kind[2] == "VOLUME"
    tiles = cut_tiles(image.pixels, TILE_PX) if is_level else [image.pixels]
    across = -(-image.pixels.shape[1] // TILE_PX)
    kept = [number for number in range(len(tiles)) if divmod(number, across) not in missing]
    data.Rows, data.Columns = tiles[0].shape[:2]
    data.NumberOfFrames = len(kept)
    data.DimensionOrganizationType = organisation
    if organisation == "TILED_SPARSE":
        data.PerFrameFunctionalGroupsSequence = [
            _position(*divmod(number, across)) for number in kept
        ]
    channels = data.SamplesPerPixel
    frames = [_encode(tiles[number][..., :channels], codec) for number in kept]
    if codec == "uncompressed":
        data.PixelData = b"".join(frames)
        data["PixelData"].VR = "OB"
    else:
        data.PixelData = encapsulate(frames)


def _position(row: int, col: int) -> Dataset:
    """Where a frame lies: DICOM counts rows and columns from 1."""
    place = Dataset()
    place.RowPositionInTotalImagePixelMatrix = row * TILE_PX + 1
    place.ColumnPositionInTotalImagePixelMatrix = col * TILE_PX + 1
    place.XOffsetInSlideCoordinateSystem = "0"
    place.YOffsetInSlideCoordinateSystem = "0"
    place.ZOffsetInSlideCoordinateSystem = "0"
    frame = Dataset()
    frame.PlanePositionSlideSequence = [place]
    return frame


def _encode(tile: Picture, codec: DicomCodec) -> bytes:
    pixels = np.ascontiguousarray(tile)
    if codec == "jpeg":
        return jpeg(pixels)
    if codec == "jpeg2000":
        return bytes(
            imagecodecs.jpeg2k_encode(pixels, reversible=True, mct=False, codecformat="j2k")
        )
    if codec == "jpegls":
        return bytes(imagecodecs.jpegls_encode(pixels))
    return pixels.tobytes()
