"""The image that DICOM objects refer to: the slide's own, or a stand-in that is always the same."""

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from slideloom.errors import SlideFormatError, SlideNotFoundError
from slideloom.workflows.export.dicom_source import source_image
from slideloom.workflows.result import SlideResult
from tests.makers.dicom import DicomStyle, write_dicom_slide
from tests.makers.finished_result import finished_result, squares

SIZE = {"width": 300, "height": 200, "mpp": 0.25}
PICTURE = np.full((200, 300, 3), 200, np.uint8)


def _result(folder: Path, **slide: Any) -> SlideResult:
    result = finished_result(folder, squares(1), **SIZE)
    record = result.record.slide.model_copy(update=slide)
    return SlideResult(folder=folder, record=result.record.model_copy(update={"slide": record}))


def _of_slide(path: Path, **slide: Any) -> SlideResult:
    folder = path.parent.with_name(f"result-{len(list(path.parents[1].iterdir()))}")
    return _result(folder, **({"path": str(path), "reader": "openslide"} | slide))


def _on_glass(image: Dataset, *pixels: tuple[float, float]) -> NDArray[np.float64]:
    to_glass = hd.spatial.ImageToReferenceTransformer.for_image(image, for_total_pixel_matrix=True)
    return np.asarray(to_glass(np.array(pixels)))


def test_a_stand_in_has_the_slides_size_and_resolution(tmp_path: Path) -> None:
    image = source_image(_result(tmp_path / "S1"))
    assert (image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows) == (300, 200)
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.PixelSpacing == [0.00025, 0.00025]
    assert image.PatientID == "S1"
    assert image.NumberOfFrames == 1
    assert hd.spatial.is_tiled_image(image)


def test_a_stand_in_lies_front_up_on_the_glass(tmp_path: Path) -> None:
    image = source_image(_result(tmp_path / "S1"))
    first, right, below = _on_glass(image, (0.5, 0.5), (299.5, 0.5), (0.5, 199.5))
    assert min(first.min(), right.min(), below.min()) >= 0
    np.testing.assert_allclose(np.linalg.norm(right - first), 299 * 0.00025)
    # The slide's z axis points at who looks at it, and an image has y down.
    assert np.cross(right - first, below - first)[2] < 0


def test_a_stand_in_follows_from_the_slides_content(tmp_path: Path) -> None:
    one = source_image(_result(tmp_path / "a" / "S1"))
    same = source_image(_result(tmp_path / "b" / "S1", path="moved/S1.svs"))
    other = source_image(_result(tmp_path / "c" / "S1", fingerprint="0" * 64))
    assert one == same
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.StudyInstanceUID != other.StudyInstanceUID


def test_names_that_dicom_cannot_hold_are_bent(tmp_path: Path) -> None:
    image = source_image(_result(tmp_path / "S1", name="ä^b\\c" + 70 * "x"))
    assert image.PatientID == "ä^b_c" + 59 * "x"
    assert str(image.PatientName) == "ä_b_c" + 58 * "x" + "^"


@pytest.mark.parametrize("named", ["folder", "finest", "coarse"])
def test_a_dicom_slide_is_its_finest_level(tmp_path: Path, named: str) -> None:
    folder = tmp_path / "S1"
    paths = write_dicom_slide(folder, PICTURE, levels=(2, 1))
    image = source_image(
        _of_slide({"folder": folder, "finest": paths[1], "coarse": paths[0]}[named])
    )
    assert (image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows) == (300, 200)
    assert image.SOPInstanceUID == image.file_meta.MediaStorageSOPInstanceUID
    assert image.ImageType[0] == "ORIGINAL"
    assert "PixelData" not in image


def test_what_a_dicom_slide_states_is_kept(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path / "S1", PICTURE, style=DicomStyle(described=True))[0]
    image = source_image(_of_slide(path))
    assert (image.PatientID, str(image.PatientName)) == ("P-1", "Müller^Ann")
    np.testing.assert_allclose(_on_glass(image, (0.5, 0.5)), [[18, 40, 0]])
    np.testing.assert_allclose(_on_glass(image, (4.5, 0.5)), [[18, 40.001, 0]])


def test_what_a_dicom_slide_leaves_out_is_filled_in(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path / "S1", PICTURE, style=DicomStyle(spacing=False))[0]
    image = source_image(_of_slide(path, mpp=0.5))
    assert image.PatientID == ""
    first, last = _on_glass(image, (0.5, 0.5), (299.5, 0.5))
    np.testing.assert_allclose(np.linalg.norm(last - first), 299 * 0.0005)
    assert source_image(_of_slide(path.parent, mpp=0.5)) == image


def test_a_dicom_slide_that_went_away_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(SlideNotFoundError, match="bring it back"):
        source_image(_of_slide(tmp_path / "S1.dcm"))
    with pytest.raises(SlideNotFoundError, match="bring it back"):
        source_image(_of_slide(tmp_path / "S1"))


def test_other_slides_need_not_be_there(tmp_path: Path) -> None:
    assert source_image(_of_slide(tmp_path / "S1.mrxs", name="S1")).PatientID == "S1"
    remote = _result(tmp_path / "S2", path="https://host.example/S2.svs")
    assert source_image(remote).PatientID == "S2"


def test_another_slide_at_the_same_place_is_refused(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path / "S1", PICTURE)[0]
    with pytest.raises(SlideFormatError, match="300 x 200 px and the result is of one with 301"):
        source_image(_of_slide(path, width=301))


def test_a_damaged_header_is_told(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path / "S1", PICTURE)[0]
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(SlideFormatError, match="cannot be read"):
        source_image(_of_slide(path))


def test_a_slide_that_nothing_can_refer_to_is_refused(tmp_path: Path) -> None:
    path = write_dicom_slide(tmp_path / "S1", PICTURE, levels=(1,))[0]
    header = pydicom.dcmread(path)
    header.StudyInstanceUID = ""
    header.save_as(path)
    with pytest.raises(SlideFormatError, match="StudyInstanceUID"):
        source_image(_of_slide(path))
